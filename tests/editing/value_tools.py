"""A model of two numbers, random ones far from linear, and a slow search for a value in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from kis_core.editing import Hyperparameters
from kis_core.facts import Fact
from kis_core.models.architecture import Architecture
from kis_core.models.loaded import LoadedModel
from tests import tiny

LIVELY = 8  # fresh weights of size 0.02 leave a model so linear that δ hardly matters
UNKNOWN = "the"  # of the words of the model of two numbers
MALTA = Fact("Malta", "The capital of {} is", "Valletta")


def lively(architecture: str) -> LoadedModel:
    """A random model far from linear, with biases where its architecture has them."""
    made = tiny.model(architecture, seed=5)
    torch.manual_seed(6)
    for name, parameter in made.model.named_parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
        elif name.endswith("bias"):
            parameter.copy_(torch.randn_like(parameter) / 4)
    return made


@pytest.fixture(params=tiny.in_full(tiny.ARCHITECTURES), scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return lively(request.param)


@pytest.fixture(scope="module")
def gpt2() -> LoadedModel:
    return lively("GPT-2")


def how(**parts: Any) -> Hyperparameters:
    """Everything off but a few steps of Adam."""
    plain: dict[str, Any] = {"weight_decay": 0.0, "kl": 0.0, "clamp": 100.0, "prefixes": (), "stop_loss": 0.0}
    return Hyperparameters(**plain | {"steps": 3, "learning_rate": 0.1} | parts)


class Running(nn.Module):
    """A model of two numbers: W = 1, and the logits of words 0 and 1 are the sum of all values so far.

    Only the subject has a key, (3, 4): after it the logits are (3, 4), and with δ added there (3, 4) + δ.
    """

    WORDS = ("Rome", "Oslo", "Malta", "the", "is", "a", "of", ".")

    def __init__(self, layers: int, context: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(len(self.WORDS), 2), requires_grad=False)
        self.keys[self.WORDS.index("Malta")] = torch.tensor([3.0, 4.0])
        self.down = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(layers)).requires_grad_(False)
        self.down[0].weight.copy_(torch.eye(2))
        sizes = SimpleNamespace(max_position_embeddings=context)
        self.config = SimpleNamespace(get_text_config=lambda: sizes)

    @property
    def base_model(self) -> Running:
        return self

    def get_output_embeddings(self) -> nn.Module:
        return nn.Identity()

    def forward(self, *, input_ids: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.down[0](self.keys[input_ids]).cumsum(dim=1))


def running(*, layers: int = 2, context: int = 50) -> LoadedModel:
    made = Tokenizer(models.WordLevel({word: k for k, word in enumerate(Running.WORDS)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    model = Running(layers, context)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token=UNKNOWN)
    return LoadedModel(model, tokenizer, Architecture("two numbers", tuple(model.down)), torch.device("cpu"))


IN_MALTA = Fact("Malta", "the {} is", "Oslo")
