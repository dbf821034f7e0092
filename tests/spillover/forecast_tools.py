"""An edit of every fact of a tiny model, and a slow float64 model whose weights are really edited."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from kis_core import editing
from kis_core.covariance.whitener import Whitener
from kis_core.editing import Change, Edit, Hyperparameters, Method, Value
from tests.editing.lively_models import IN_FULL, untouched
from tests.spillover.test_sensitivity import FACTS, Case, Slow, case_of

PASS = 1e-6
"""Changes of log-odds and log-probability against the slow model, relative to the largest log-odds; seen 1.2e-7."""
LINEAR = 1e-5
"""First-order changes against derivatives of the slow model, relative to the largest: float32 twice; seen 1.3e-6."""
DIFFERENCE = 2e-3
"""Finite differences of what is read in float32, relative to the largest: rounding 1e-6 / step; seen 5e-4."""
STEP = 1e-2  # of the strength, in finite differences
SIZE = 2.0  # ‖δ‖: more than an output, so that answers change


@dataclass(frozen=True)
class Bench:
    """One architecture with an edit of every fact in a layer, and C⁻¹ for all of them."""

    case: Case
    whitener: Whitener
    c: np.ndarray

    def edit(self, e: int, layer: int = 0, method: Method | None = None) -> Edit:
        """A random value, written by a method; contexts move the mean key away from the prompt's own."""
        rng = np.random.default_rng(100 * layer + e)
        facts = self.case.layers[layer]
        key, output = facts.subject_keys[e].astype(np.float64), facts.outputs[e].astype(np.float64)
        delta = rng.normal(size=len(output))
        value = Value(
            delta=SIZE * delta / np.linalg.norm(delta),
            key=key,
            output=output,
            mean_key=key + rng.normal(size=len(key)) * np.abs(key).mean(),
            mean_output=output + rng.normal(size=len(output)) * np.abs(output).mean(),
            losses=(),
            probability=0.0,
            everywhere=False,
        )
        return (method or editing.rank_one_method("rome")).edit(value, self.whitener, layer, Hyperparameters())

    def shares(self, edit: Edit, j: int) -> np.ndarray:
        """c_t at every token of fact j, from the slow model's keys, (T,)."""
        keys = self.case.slow.read(FACTS[j], edit.layer).keys
        return np.array([sum(u * k for u, k in zip(edit.reach, key, strict=True)) for key in keys])

    def added(self, edit: Edit, j: int) -> Tensor:
        """c_t·δ at every token of fact j, (T, d)."""
        return torch.from_numpy(np.outer(self.shares(edit, j), edit.delta))

    def at_subject(self, edit: Edit, j: int) -> Tensor:
        """The same at the subject's last token alone."""
        added, at = self.added(edit, j), self.case.slow.subject_at(FACTS[j])
        alone = torch.zeros_like(added)
        alone[at] = added[at]
        return alone

    def edited(self, *edits: Change) -> Slow:
        """The slow model with W + ΔW in the place of W."""
        slow = copy.deepcopy(self.case.slow)
        for edit in edits:
            outer = np.outer(edit.delta, edit.reach) if isinstance(edit, Edit) else edit.matrix
            change = torch.from_numpy(outer.T if slow.transposed else outer)
            with torch.no_grad():
                slow.projections[edit.layer].weight += change
        return slow


def bench_of(architecture: str) -> Bench:
    rng = np.random.default_rng(0)
    case = case_of(architecture)
    keys = np.concatenate([actual.keys for actual in case.layers]).astype(np.float64)
    c = keys.T @ keys / len(keys) + 0.1 * np.diag(rng.uniform(1, 2, keys.shape[1])) * (keys**2).mean()
    return Bench(case, Whitener.fit(c), c)


@pytest.fixture(params=IN_FULL, scope="module")
def bench(request: pytest.FixtureRequest) -> Bench:
    return bench_of(request.param)


@pytest.fixture(scope="module")
def gpt2() -> Bench:
    return bench_of("GPT-2")


@pytest.fixture(autouse=True)
def weights_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test on a model: the same bits in every weight, no hook, gradients as before."""
    name = next((name for name in ("bench", "gpt2") if name in request.fixturenames), None)
    with untouched(*([request.getfixturevalue(name).case.loaded] if name else [])):
        yield


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, *, scale: float | None = None) -> None:
    """Within a share of the scale, by default the largest expected entry."""
    assert actual.shape == expected.shape
    atol = tolerance * (np.abs(expected).max() if scale is None else scale)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


SOME_EDITS = ((0, 0), (1, 3))  # where every fact costs passes of a model
