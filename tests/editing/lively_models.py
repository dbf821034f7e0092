"""Random models far from linear, which architectures are tested in full, and that a test leaves a model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from kis_core.models.loaded import LoadedModel
from tests import tiny

LIVELY = 8  # fresh weights of size 0.02 leave a model so linear that edits hardly differ
IN_FLOAT32 = 1e-5  # relative to the largest logit: three layers, some fifty roundings of 6e-8; seen 1.1e-6
PATIENCE = 60.0  # seconds before a thread that waits in vain fails the test; they wait for microseconds
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


IN_FULL = tiny.in_full(tiny.ARCHITECTURES)


def lively(architecture: str, seed: int = 3) -> LoadedModel:
    """A random model far from linear, with biases where its architecture has them."""
    made = tiny.model(architecture, seed=seed)
    torch.manual_seed(seed + 1)
    for name, parameter in made.model.named_parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
        elif name.endswith("bias"):
            parameter.copy_(torch.randn_like(parameter) / 4)
    return made


@pytest.fixture(params=IN_FULL, scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A lively model; no test may change it."""
    return lively(request.param)


def hooks_on(loaded: LoadedModel) -> int:
    return sum(len(getattr(module, kind)) for module in loaded.model.modules() for kind in HOOKS)


@contextmanager
def untouched(*models: LoadedModel) -> Iterator[None]:
    """After the block: the same bits in every weight, no hook, gradients as before."""
    before = [loaded.digest() for loaded in models]
    yield
    assert [loaded.digest() for loaded in models] == before
    assert not any(hooks_on(loaded) for loaded in models)
    assert not any(weight.requires_grad for loaded in models for weight in loaded.model.parameters())
    assert torch.is_grad_enabled()
