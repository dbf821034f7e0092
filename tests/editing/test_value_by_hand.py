"""The search for a value by hand, on a model of two numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kis_core.editing import search
from kis_core.facts import Fact
from tests.editing.value_tools import IN_MALTA, how, running

BY_HAND = 1e-6  # float32 losses of size 1, and Adam's eps of 1e-8 beside gradients of size 1


def surprise(towards: float, other: float) -> float:
    """-log p of one of two words from their logits."""
    return math.log1p(math.exp(other - towards))


class TestByHand:
    def test_adams_first_step_is_the_learning_rate_in_each_number(self) -> None:
        found = search(running(), IN_MALTA, "Rome", 0, how(steps=1, learning_rate=0.25))
        assert found.delta == pytest.approx([0.25, -0.25], abs=BY_HAND)
        assert found.losses == pytest.approx([surprise(3, 4), surprise(3.25, 3.75)], abs=BY_HAND)
        assert found.probability == pytest.approx(math.exp(-surprise(3.25, 3.75)), abs=BY_HAND)

    def test_key_and_value_and_their_means(self) -> None:
        found = search(running(), IN_MALTA, "Rome", 0, how(steps=1), prefixes=["of Malta"])
        assert (found.key.tolist(), found.output.tolist()) == ([3, 4], [3, 4])
        assert (found.mean_key.tolist(), found.mean_output.tolist()) == ([3, 4], [3, 4])
        assert {getattr(found, name).dtype for name in ("delta", "key", "output", "mean_key")} == {np.dtype("float64")}
        # after "of Malta." the logits are (6, 8) before δ: δ counts at the subject meant, not at the other one
        expected = [(surprise(3 + s, 4 - s) + surprise(6 + s, 8 - s)) / 2 for s in (0, 0.1)]
        assert found.losses == pytest.approx(expected, abs=BY_HAND)

    def test_an_object_of_several_tokens_counts_by_its_mean_token(self) -> None:
        found = search(running(), IN_MALTA, "Rome Rome Oslo", 0, how(steps=1))
        for loss, (first, second) in zip(found.losses, [(3, 4), (3.1, 3.9)], strict=True):
            assert loss == pytest.approx((2 * surprise(first, second) + surprise(second, first)) / 3, abs=BY_HAND)
        assert found.probability == pytest.approx(math.exp(-found.losses[-1]), abs=BY_HAND)

    def test_weight_decay_divergence_and_clamp(self) -> None:
        """δ over the square of the value; what now follows the subject from what did before; a share of the value."""
        now, before = 1 / (1 + math.exp(0.8)), 1 / (1 + math.exp(1.0))  # of Rome, from logits 0.8 and 1 apart
        divergence = now * math.log(now / before) + (1 - now) * math.log((1 - now) / (1 - before))
        decay = 0.1 * math.sqrt(2) / 25
        for held_back, cost in (({"weight_decay": 7.0}, 7.0 * decay), ({"kl": 3.0}, 3.0 * divergence)):
            found = search(running(), IN_MALTA, "Rome", 0, how(steps=1, **held_back))
            assert found.losses == pytest.approx([surprise(3, 4), surprise(3.1, 3.9) + cost], abs=BY_HAND)
            assert found.probability == pytest.approx(math.exp(-surprise(3.1, 3.9)), abs=BY_HAND)
        each = 0.01 * 5 / math.sqrt(2)
        clamped = search(running(), IN_MALTA, "Rome", 0, how(steps=4, clamp=0.01))
        assert clamped.delta == pytest.approx([each, -each], abs=BY_HAND)
        assert clamped.losses[1:] == pytest.approx([surprise(3 + each, 4 - each)] * 4, abs=BY_HAND)

    def test_delta_acts_at_every_token_by_its_share(self) -> None:
        """u = (1, 0): a share of 3 at each Malta, of which the prompt has two."""
        twice = Fact("Malta", "of Malta the {} is", "Oslo")
        found = search(
            running(), twice, "Rome", 0, how(steps=1, everywhere=True), reach=lambda *_: np.array([1.0, 0.0])
        )
        assert found.losses == pytest.approx([surprise(6, 8), surprise(6 + 6 * 0.1, 8 - 6 * 0.1)], abs=BY_HAND)
        assert found.everywhere
        assert not search(running(), twice, "Rome", 0, how(steps=1)).everywhere

    def test_enough_is_enough(self) -> None:
        loaded = running()
        full = search(loaded, IN_MALTA, "Rome", 0, how(steps=8))
        assert list(full.losses) == sorted(full.losses, reverse=True)
        stop = (full.losses[2] + full.losses[3]) / 2
        early = search(loaded, IN_MALTA, "Rome", 0, how(steps=8, stop_loss=stop))
        assert early.losses == full.losses[:4]
        assert early.delta == pytest.approx([0.3, -0.3], rel=0.1), "three steps of about 0.1"
        assert early.probability == pytest.approx(math.exp(-full.losses[3]), abs=BY_HAND)

    def test_a_model_that_says_so_already_needs_no_value(self) -> None:
        found = search(running(), IN_MALTA, "Oslo", 0, how(steps=8, stop_loss=1.0))
        assert found.losses == (pytest.approx(surprise(4, 3), abs=BY_HAND),)
        assert found.delta.tolist() == [0.0, 0.0]
        assert found.probability == pytest.approx(math.exp(-surprise(4, 3)), abs=BY_HAND)
