"""What a run costs, against the products that it is seen to make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kis_core import lifelong
from kis_core.analysis.requirements import block_parameters
from kis_core.lifelong import cost
from kis_core.models import catalog
from kis_core.simulator import Simulator
from tests.lifelong import lifelong_tools as tools


@pytest.mark.parametrize(("layer", "everywhere"), [(0, True), (2, False)])
def test_is_what_a_run_really_does(bench: Simulator, layer: int, everywhere: bool) -> None:
    """All steps of every search are made; each token that goes through a block, or to words, is counted."""
    entry = next(entry for entry in catalog.demo() if entry.name == tools.MODEL)
    request = lifelong.ask(bench, layer, edits=6, every=3)
    request = replace(request, how=replace(request.how, stop_loss=0.0, steps=12, everywhere=everywhere))
    model, done = bench.model, [0.0]

    def passed(parameters: float, _: Any, inputs: tuple[Any, ...], __: Any) -> None:
        operations = 2 * parameters * inputs[0].numel() / inputs[0].shape[-1]
        done[0] += operations * (cost.WITH_GRADIENT if torch.is_grad_enabled() else 1)

    blocks, head = model.architecture.blocks, model.model.get_output_embeddings()
    hooks = [
        module.register_forward_hook(lambda *seen, size=size: passed(size, *seen))
        for module, size in [(block, block_parameters(entry) / entry.layers) for block in blocks]
        + [(head, head.weight.numel())]
    ]
    try:
        lifelong.run(bench, request)
    finally:
        for hook in hooks:
            hook.remove()
    assert 0.5 < done[0] / cost.operations(bench.result, entry, request) < 1.5
