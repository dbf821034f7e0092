"""A model that is the same bits whatever happens in an edit, and two threads that edit one at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kis_core import editing
from kis_core.covariance.whitener import Whitener
from kis_core.editing import contexts, overlay, value
from kis_core.editing.edit import Edit
from kis_core.editing.insertion import Insertion
from kis_core.editing.overlay import applied
from kis_core.facts import Fact
from kis_core.models.loaded import LoadedModel
from kis_core.scoring import log_odds
from kis_core.scoring.log_odds import Sentence, read, tokenize_sentences
from tests.editing.lively_models import IN_FLOAT32, PATIENCE, hooks_on, lively, untouched

MALTA = Fact("Malta", "The capital of {} is", "Valletta")
OSLO = Fact("Oslo", "In the town of {} people speak", "Norwegian")
FACTS = (MALTA, OSLO, Fact("the Bank of England", "{} lies in", "London"))


class Rerun(BaseException):
    """As a page's script is ended: not an Exception, so nothing that catches those sees it."""


ENDINGS = (RuntimeError, Rerun)  # one that `except Exception` sees, and one that it does not


@dataclass(frozen=True, eq=False)
class Made:
    """All numbers of one edit from beginning to end."""

    losses: tuple[float, ...]
    delta: np.ndarray
    log_odds: Tensor
    log_prob: Tensor

    def same(self, other: Made) -> bool:
        """To the last bit."""
        return (
            self.losses == other.losses
            and np.array_equal(self.delta, other.delta)
            and torch.equal(self.log_odds, other.log_odds)
            and torch.equal(self.log_prob, other.log_prob)
        )


HOW = editing.Hyperparameters(steps=2, learning_rate=0.1, kl=0.1, prefixes=((1, 2),), stop_loss=0.0)
WHITENER = Whitener.fit(np.eye(40) + np.outer(np.arange(40), np.arange(40)) / 400)


def edit_and_read(
    loaded: LoadedModel,
    fact: Fact = MALTA,
    target: str = "Rome",
    how: editing.Hyperparameters = HOW,
    *,
    seen: Callable[[float], None] | None = None,
    within: Callable[[], None] = lambda: None,
) -> Made:
    """A whole edit: prefixes, value, factors, hooks, forward pass, reading."""
    actual = editing.search(loaded, fact, target, 1, how, seen=seen)
    made = editing.rank_one_method("rome").edit(actual, WHITENER, 1, how)
    sentences = sentences_of(loaded)
    with torch.inference_mode(), applied(loaded, made, made.scaled(0.5), Edit(0, made.reach, made.delta / 2)):
        within()
        reading = read(loaded, sentences)
        within()
    return Made(actual.losses, made.delta, reading.log_odds, reading.log_prob)


def sentences_of(loaded: LoadedModel) -> list[Sentence]:
    return tokenize_sentences(loaded.tokenizer, FACTS, context=loaded.context)


STEPS: dict[str, tuple[Any, str]] = {
    "sampling prefixes": (contexts, "next_token_logits"),
    "tokenising": (value, "tokenize_sentences"),
    "looking at the layer": (value, "_site"),
    "setting a hook": (nn.Module, "register_forward_hook"),
    "running the model": (PreTrainedModel, "__call__"),
    "within the hooked layer": (overlay, "overlaid"),
    "adding a value": (Insertion, "adding"),
    "reading": (log_odds, "token_log_odds"),
    "differentiating": (Tensor, "backward"),
    "stepping": (torch.optim.Adam, "step"),
    "building factors": (overlay, "_tensor"),
}
"""What an edit goes through, and where it can be made to fail there."""


class TestAnythingMayFail:
    """RELIABILITY case 19."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> LoadedModel:
        return lively("GPT-2")

    @pytest.fixture(scope="class")
    @classmethod
    def clean(cls, model: LoadedModel) -> Made:
        return edit_and_read(model)

    @pytest.mark.parametrize("step", STEPS)
    def test_each_step_in_turn_and_the_next_edit_gives_the_same_numbers(
        self, model: LoadedModel, clean: Made, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        place, name = STEPS[step]
        working = getattr(place, name)
        failed, last = True, 0
        with untouched(model):
            while failed:
                last += 1
                calls, ending = count(1), ENDINGS[last % len(ENDINGS)]

                def failing(*args: Any, **options: Any) -> Any:
                    if next(calls) == last:  # noqa: B023 - called within this turn
                        raise ending(step)  # noqa: B023
                    return working(*args, **options)

                with monkeypatch.context() as patched:
                    patched.setattr(place, name, failing)
                    try:
                        edit_and_read(model)
                        failed = False
                    except ending:
                        assert next(calls) > last
                assert hooks_on(model) == 0
        assert 1 < last == next(calls), "this step is never taken, or its failure was passed over"
        assert edit_and_read(model).same(clean)

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_so_may_what_is_called_with_losses_and_what_is_done_within_the_block(
        self, model: LoadedModel, clean: Made, ending: type[BaseException]
    ) -> None:
        def fail(*_: object) -> None:
            raise ending("outside")

        with untouched(model):
            for options in ({"seen": fail}, {"within": fail}):
                with pytest.raises(ending, match="outside"):
                    edit_and_read(model, **options)
        assert edit_and_read(model).same(clean)
        plain = read(model, sentences_of(model))
        assert (clean.log_odds - plain.log_odds).abs().min() > IN_FLOAT32, "an edit that changes nothing says nothing"


@pytest.mark.parametrize("edits", [5, pytest.param(50, marks=pytest.mark.stress)])
def test_edits_in_two_threads_at_once_are_those_of_a_run_alone(edits: int) -> None:
    """RELIABILITY case 20."""
    model = lively("GPT-2")
    work = {seed: plan(seed, edits) for seed in (0, 1)}
    alone = {seed: [edit_and_read(model, *each) for each in planned] for seed, planned in work.items()}
    both = threading.Barrier(2, timeout=PATIENCE)  # each waits for the other wherever overlays or δ are on
    together: dict[int, list[Made]] = {}

    def run(seed: int) -> None:
        try:
            together[seed] = [
                edit_and_read(model, *each, seen=lambda _: both.wait(), within=both.wait) for each in work[seed]
            ]
        except BaseException:
            both.abort()
            raise

    threads = [threading.Thread(target=run, args=(seed,)) for seed in work]
    with untouched(model):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed, expected in alone.items():
        assert all(actual.same(made) for actual, made in zip(together[seed], expected, strict=True))
    assert not any(made.same(other) for made, other in zip(*alone.values(), strict=True))


def plan(seed: int, edits: int) -> list[tuple[Fact, str, editing.Hyperparameters]]:
    """Edits that differ between the threads; everyone takes as many steps, so that both wait equally often."""
    how = editing.Hyperparameters(steps=1, prefixes=((0, 1),), stop_loss=0.0)
    targets: Sequence[str] = ("Rome", "Paris", "London")
    return [
        (FACTS[(k + seed) % len(FACTS)], targets[k % 3], replace(how, learning_rate=0.1 + k / 100))
        for k in range(edits)
    ]
