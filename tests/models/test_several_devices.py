"""A model spread over two devices: nothing of one is ever mixed with anything of the other.

The second device is made up: a mode of torch keeps account of which tensors lie there, lets them lie on the processor,
and refuses what two real devices would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from kis_core.covariance.whitener import Whitener
from kis_core.editing import DenseEdit, Edit
from kis_core.keys import fact_keys, tokenize_prompts
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.answers import knows, top_answers
from kis_core.scoring.perplexity import perplexity
from tests import tiny
from tests.models.test_half_precision import edited, every_case, spillover
from tests.spillover.test_sensitivity import FACTS, lively

HERE, FAR = torch.device("cpu"), torch.device("xla:1")  # never touched: only its name is used
INDEXING = ("__getitem__", "__setitem__")
DEVICE_OF = Tensor.device.__get__  # type: ignore[attr-defined]
RANDOM = np.random.default_rng(0)
STANDING = (Edit(1, RANDOM.normal(size=40), RANDOM.normal(size=24)), DenseEdit(1, RANDOM.normal(size=(24, 40)) / 5))


class TwoDevices(TorchFunctionMode):
    """Within it, tensors lie on `HERE` or on `FAR`, and operations take those of one device alone."""

    def __init__(self, far: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.far: WeakIdKeyDictionary = WeakIdKeyDictionary(dict.fromkeys(far, True))

    def settle(self, actual: Any, far: bool) -> Any:
        for leaf in tree_leaves(actual):
            if isinstance(leaf, Tensor) and far:
                self.far[leaf] = True
            elif isinstance(leaf, Tensor):
                self.far.pop(leaf, None)
        return actual

    def moved(self, tensor: Tensor, actual: Tensor, far: bool) -> Any:
        """What `to` and `cpu` give: another tensor where the device is another."""
        return self.settle(actual.clone() if actual is tensor and far != (tensor in self.far) else actual, far)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if func == DEVICE_OF:
            return FAR if args[0] in self.far else HERE
        wanted = [leaf == FAR for leaf in leaves if isinstance(leaf, torch.device)]
        args, kwargs = tree_map(lambda leaf: HERE if isinstance(leaf, torch.device) else leaf, (args, kwargs or {}))
        actual, name = func(*args, **kwargs), func.__name__
        if name == "to":
            place = wanted[0] if wanted else tensors[-1] in self.far  # of a tensor it is to be like, or its own
            return self.moved(args[0], actual, place)
        if name == "cpu":
            return self.moved(args[0], actual, far=False)
        whole = {tensor in self.far for tensor in tensors if tensor.ndim or name in INDEXING}
        single = {tensor in self.far for tensor in tensors} - whole  # one number of the processor goes anywhere
        if len(whole) > 1 or (whole and True in single) or (name == "numpy" and True in whole | single):
            raise RuntimeError(f"{name}: tensors on two devices")
        return self.settle(actual, wanted[0] if wanted else True in (whole or single))


def bring_to(place: torch.device, module: nn.Module) -> None:
    """As accelerate does: what comes in is moved to where the module lies."""

    def bring(_: nn.Module, args: Any, kwargs: Any) -> Any:
        return tree_map(lambda leaf: leaf.to(place) if isinstance(leaf, Tensor) else leaf, (args, kwargs))

    module.register_forward_pre_hook(bring, with_kwargs=True)


@pytest.fixture(params=tiny.in_full(["GPT-2", "Llama"], ("GPT-2",)), scope="module")
def whole(request: pytest.FixtureRequest) -> LoadedModel:
    return lively(request.param)


@pytest.fixture
def spread(whole: LoadedModel) -> Iterator[LoadedModel]:
    """The same with its middle layer on the other device, while that is there."""
    loaded = lively({"GPT-2": "GPT-2", "Llama": "Llama"}[whole.architecture.name])
    first, middle, last = loaded.architecture.blocks
    bring_to(FAR, middle)
    behind = [part for name, part in loaded.model.base_model.named_children() if name in ("ln_f", "norm")]
    for module in (last, *behind):
        bring_to(HERE, module)
    with TwoDevices([*middle.parameters(), *middle.buffers()]):
        assert loaded.architecture.weight(1).device == FAR
        assert loaded.architecture.weight(0).device == HERE
        with pytest.raises(RuntimeError, match="two devices"):
            first.mlp(torch.zeros(1, 2, 24).to(FAR))
        yield loaded


def both(spread: LoadedModel, whole: LoadedModel, made: Callable[[LoadedModel], Any]) -> None:
    """Bit for bit the same."""
    actual, expected = (tree_leaves(made(loaded)) for loaded in (spread, whole))
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keys_and_answers(whole: LoadedModel, spread: LoadedModel) -> None:
    prompts = tokenize_prompts(whole.tokenizer, FACTS, context=whole.context)
    both(spread, whole, lambda loaded: fact_keys(loaded, prompts))
    both(spread, whole, lambda loaded: [answer.text for row in top_answers(loaded, prompts) for answer in row])
    both(spread, whole, lambda loaded: [*knows(loaded, FACTS), perplexity(loaded, ["Oslo lies in Norway."])])


@pytest.mark.parametrize(("name", "how"), every_case())
def test_every_method(whole: LoadedModel, spread: LoadedModel, name: str, how: str) -> None:
    whiteners = dict.fromkeys((0, 1), Whitener.fit(np.diag(np.arange(1.0, 41))))

    def made(loaded: LoadedModel) -> list[np.ndarray]:
        changes, keys, _ = edited(loaded, name, how, whiteners, steps=1, standing=STANDING)
        return [keys, *(change.matrix for change in changes)]

    both(spread, whole, made)


def test_forecasts_and_measurement(whole: LoadedModel, spread: LoadedModel) -> None:
    both(spread, whole, lambda loaded: spillover(loaded, STANDING[0]))
