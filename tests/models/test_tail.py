"""A pass from a layer on gives what a whole pass gives, whatever is changed there, for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from kis_core.models import tail
from kis_core.models.batching import pad
from kis_core.models.hooks import hooked
from kis_core.models.loaded import LoadedModel
from kis_core.models.tail import from_layer
from tests import tiny

LENGTHS = 9, 14, 11, 6
BEGIN = [2, 7, 5, 5]
LAYER = 1


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    torch.manual_seed(1)
    return [torch.randint(1, tiny.VOCABULARY, (length,)).tolist() for length in LENGTHS]


def adding(loaded: LoadedModel, at: Sequence[int], delta: Tensor) -> object:
    """Within the block, δ is added at one column of each row."""

    def add(_: int, keys: Tensor, output: Tensor) -> Tensor:
        chosen = torch.zeros(output.shape[:2])
        chosen[list(range(len(at))), list(at)] = 1
        return output + chosen[..., None] * delta

    return hooked([loaded.architecture.down_projections[LAYER]], add)


def whole(loaded: LoadedModel, texts: Sequence[Sequence[int]], delta: Tensor) -> Tensor:
    ids, mask = pad(texts, loaded.device)
    with adding(loaded, BEGIN, delta):
        return loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state


def assert_same(actual: Tensor, expected: Tensor, begin: Sequence[int], **tolerance: float) -> None:
    for row, (length, first) in enumerate(zip(LENGTHS, begin, strict=True)):
        torch.testing.assert_close(actual[row, : length - first], expected[row, first:length], **tolerance)


@pytest.mark.parametrize("architecture", tiny.in_full(tiny.EVERY_ARCHITECTURE))
@pytest.mark.parametrize("begin", [[0] * 4, BEGIN], ids=["all of it", "the rest"])
def test_it_gives_what_the_whole_model_gives(architecture: str, begin: list[int], texts: list[list[int]]) -> None:
    loaded = tiny.model(architecture)
    passes = from_layer(loaded, texts, LAYER, begin)
    assert passes.first == begin, "the whole model would be run"
    for seed in range(2):  # it can be run again and again
        delta = torch.randn(loaded.architecture.widths[0], generator=torch.Generator().manual_seed(seed))
        delta.requires_grad_()
        with adding(loaded, [at - first for at, first in zip(BEGIN, passes.first, strict=True)], delta):
            actual = passes.run()
        expected = whole(loaded, texts, delta)
        exact = {"rtol": 0.0, "atol": 0.0} if not any(begin) else {"rtol": 1e-4, "atol": 2e-6}
        assert_same(actual, expected, begin, **exact)
        slopes = [
            torch.autograd.grad(sum(out[row, n - 1 - f].sum() for row, (n, f) in enumerate(rows)), delta)[0]
            for out, rows in ((actual, zip(LENGTHS, begin, strict=True)), (expected, [(n, 0) for n in LENGTHS]))
        ]
        torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fault", ["another sum", "something unknown"])
def test_the_whole_model_is_run_where_its_blocks_alone_are_not_all(
    fault: str, texts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny.model("Llama")
    if fault == "another sum":
        inner: Callable[..., Tensor] = loaded.model.base_model.norm.forward
        monkeypatch.setattr(loaded.model.base_model.norm, "forward", lambda hidden: inner(hidden) + hidden.shape[1])
    else:
        monkeypatch.setattr(tail, "POSITIONS", "nobody's name")
    passes = from_layer(loaded, texts, LAYER, BEGIN)
    assert passes.first == [0] * 4
    delta = torch.ones(loaded.architecture.widths[0])
    with adding(loaded, BEGIN, delta):
        actual = passes.run()
    assert_same(actual, whole(loaded, texts, delta), BEGIN)


def test_hooks_of_the_first_pass_are_gone_after_it(texts: list[list[int]]) -> None:
    loaded = tiny.model("GPT-2")
    from_layer(loaded, texts, LAYER, BEGIN)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())
