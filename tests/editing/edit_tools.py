"""Random models far from linear, and edits of them."""

from __future__ import annotations

import pytest
import torch

from kis_core.models.loaded import LoadedModel
from tests import tiny

IN_FLOAT32 = 1e-5  # relative to the largest logit: three layers, some fifty roundings of 6e-8; seen 1.1e-6
LIVELY = 8  # fresh weights of size 0.02 leave a model so linear that edits hardly differ
PATIENCE = 60.0  # seconds before a thread that waits in vain fails the test; they wait for microseconds


def lively(architecture: str) -> LoadedModel:
    """A random model far from linear, with biases where its architecture has them."""
    made = tiny.model(architecture, seed=3)
    torch.manual_seed(4)
    for name, parameter in made.model.named_parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
        elif name.endswith("bias"):
            parameter.copy_(torch.randn_like(parameter) / 4)
    return made


@pytest.fixture(params=tiny.ARCHITECTURES, scope="module")
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A lively model of each architecture; no test of this file may change it."""
    return lively(request.param)


def hooks_on(loaded: LoadedModel) -> int:
    modules = list(loaded.model.modules())
    return sum(
        len(getattr(module, kind))
        for module in modules
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    )
