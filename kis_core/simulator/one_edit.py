"""One edit: its forecast, the edit itself on the model in memory, and what that did; then the same in each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kis_core import progress
from kis_core.files.field_text import fault, tidy
from kis_core.request import RequestError
from kis_core.simulator.edit_records import Advice, EditOutcome, EditRequest, FlipForecast, Forecast
from kis_core.simulator.groundwork import Groundwork
from kis_core.simulator.stored import EDIT, edit_from_entry, edit_to_entry
from kis_core.store.store import key_of

if TYPE_CHECKING:
    from kis_core.editing import Edit, Probes

MOST_STRENGTH = 1.5
ADVICE = "Trying the layers"
FLIPS_AT_ONCE = 256  # facts whose logits over the whole vocabulary are held at a time


class Simulator(Groundwork):
    """Edits of one model on one fact set: forecasts before they are made, and what they really did."""

    def request(self, fact: int, target: str, layer: int, method: str = "rome", **how: Any) -> EditRequest:
        """An edit, with the hyper-parameters that suit the model, but for those given.

        Raises:
            RequestError: no such fact.
            EditError: no such method, a hyper-parameter out of range, or characters that nobody sees in the object.
        """
        from kis_core import editing

        if not 0 <= fact < len(self.facts):
            raise RequestError(f"facts count from 0 to {len(self.facts) - 1}; fact {fact} was to be edited")
        self.result.at(layer)
        editing.rank_one_method(method)
        new_object = tidy(target)  # what nobody sees at its ends makes other tokens
        if why := fault(new_object):
            raise editing.EditError(f"the new object {why}")
        return EditRequest(fact, new_object, layer, method, replace(self.recipe.hyperparameters, **how))

    def reaches(self, fact: int, layer: int) -> bool:
        """Whether an edit of a fact in a layer can reach the answer; needs no model."""
        from kis_core.editing import reaches_answer

        ends = self.facts[fact].prompt.rstrip().endswith("{}")
        return reaches_answer(layer=layer, layers=self.result.provenance["layers_in_model"], ends_with_subject=ends)

    def prepare(
        self,
        request: EditRequest,
        *,
        seen: Callable[[float], None] | None = None,
        report: progress.Report = progress.silent,
    ) -> None:
        """Do all that takes long before an edit can be forecast: load, differentiate, search.

        Args:
            request: the edit.
            seen: called with the loss of every step of a search.
            report: called as the work goes on.
        """
        report("Loading the model", 0, 1)
        _ = self.model
        report("Loading the model", 1, 1)
        self.sensitivity(request.layer, report)
        self.value(request, seen=seen, report=report)
        self.forecast(request)

    def edit(self, request: EditRequest) -> Edit:
        """The edit of full strength, as the model has it."""
        from kis_core import editing

        method, layer = editing.rank_one_method(request.method), request.layer
        edit = method.edit(self.value(request), self.whitener(layer), layer, request.how)
        return edit if method.restrain is None else method.alone(edit, self.weight(layer), self.settings(method))

    def forecast(self, request: EditRequest, *, flips: bool = True) -> Forecast:
        """What the edit would do, before it is made.

        Args:
            request: the edit.
            flips: also forecast which answers change, which runs the model once.
        """
        return self._kept.once(("forecast", request, flips), lambda: self._forecast(request, flips))

    def _forecast(self, request: EditRequest, flips: bool) -> Forecast:
        from kis_core import editing
        from kis_core.spillover import forecast, landing

        if kept := self._kept_edit(request):
            return kept[0]
        edit, facts, value = self.edit(request), self.sensitivity(request.layer), self.value(request)
        method = editing.rank_one_method(request.method)
        return Forecast(
            edit,
            self.result.p[self.result.at(request.layer), request.fact],
            edit.coefficients(facts.subject_keys),
            forecast.shift(edit, facts),
            forecast.subject_token(edit, facts),
            forecast.all_tokens(edit, facts),
            self._flips(edit) if flips else None,
            landing.largest(edit, facts, without=request.fact),
            method.takes_own_key(value.key, value.mean_key, self.whitener(request.layer), request.how),
        )

    def warnings(self, forecast: Forecast, outcome: EditOutcome | None = None) -> list[str]:
        """Warnings about an edit, before it is made or after; see `spillover.landing`.

        What `results.caveats.of_edit` says of the edited key is known earlier, and not repeated here.
        """
        from kis_core.spillover import landing

        if outcome is None:
            return landing.warnings(forecast.landing, self.facts, own_key=forecast.own_key)
        return landing.warnings(
            forecast.landing,
            self.facts,
            own_key=forecast.own_key,
            edit=forecast.edit.scaled(outcome.strength),
            measured=outcome.measured,
            without=outcome.request.fact,
        )

    def _flips(self, edit: Edit) -> FlipForecast:
        from kis_core.scoring.answers import finish_words
        from kis_core.spillover import forecast

        at: list[int] = []
        since: list[float] = []
        tokens: list[int] = []
        for begin in range(0, len(self.sentences), FLIPS_AT_ONCE):
            some = self.sentences[begin : begin + FLIPS_AT_ONCE]
            logits, change = forecast.first_order_logits(self.model, some, edit)
            facts, strengths, words_begun = forecast.crossings(logits, change, up_to=MOST_STRENGTH)
            at += [begin + fact for fact in facts]
            since += strengths
            tokens += words_begun
        prompts = [self.sentences[j].tokens[: self.sentences[j].prompt_end + 1] for j in at]
        words = finish_words(self.model, list(zip(prompts, tokens, strict=True)))
        return FlipForecast(tuple(at), tuple(since), tuple(words))

    def perform(
        self, request: EditRequest, strength: float = 1.0, report: progress.Report = progress.silent
    ) -> EditOutcome:
        """Make the edit on the model in memory, measure every fact, take it back.

        Args:
            request: the edit.
            strength: a factor of δ.
            report: called as the measurement goes on.
        """
        return self._kept.once(("outcome", request, strength), lambda: self._perform(request, strength, report))

    def performed(self, request: EditRequest, strength: float) -> bool:
        """Whether `perform` knows the outcome already."""
        known = ("outcome", request, strength) in self._kept
        return known or (strength == 1.0 and self._kept_edit(request) is not None)

    def has_forecast(self, request: EditRequest) -> bool:
        """Whether `forecast` has worked out the forecast, flips included, already."""
        return ("forecast", request, True) in self._kept or self._kept_edit(request) is not None

    def keep(self, request: EditRequest, report: progress.Report = progress.silent) -> str:
        """Keep an edit of full strength in the store, forecast and measured, to be shown without its model.

        Returns:
            its name in the store.
        """
        key = self.edit_key(request)
        if self._kept_edit(request) is None:
            self.prepare(request, report=report)
            forecast, outcome = self.forecast(request), self.perform(request, report=report)
            entry = edit_to_entry(forecast, outcome, self.scores(forecast, outcome))
            self.store.put(key, entry.meta, entry.arrays)
        return key

    def edit_key(self, request: EditRequest) -> str:
        """Name in the store of an edit that was kept."""
        return key_of(EDIT, {"value": self.value_key(request), "of": self.result.identity})

    def _kept_edit(self, request: EditRequest) -> tuple[Forecast, EditOutcome] | None:
        def read() -> tuple[Forecast, EditOutcome] | None:
            entry = self.store.get(self.edit_key(request), m=len(self.facts), **self.widths)
            return edit_from_entry(entry, request) if entry else None

        return self._kept.once(("edit", request), read)

    def _perform(self, request: EditRequest, strength: float, report: progress.Report) -> EditOutcome:
        from kis_core import editing, spillover

        if strength == 1.0 and (kept := self._kept_edit(request)):
            return kept[1]
        facts, edit = self.sensitivity(request.layer), self.edit(request).scaled(strength)
        model, sentences = self.model, self.sentences
        measured = spillover.measure(model, sentences, edit, facts, report=report)
        report("The propagated forecast", 0, 1)
        propagated = spillover.forecast.propagated(model, sentences, edit, facts)
        report("Whether the edit took", 0, 1)
        fact = self.facts[request.fact]
        success = editing.succeeded(model, edit, fact, request.target, self.probes(request.fact))
        report("Whether the edit took", 1, 1)
        flipped = np.array([a != b for a, b in zip(measured.answers, self.answers_before, strict=True)])
        return EditOutcome(request, strength, measured, propagated, success, flipped)

    @cached_property
    def answers_before(self) -> tuple[str, ...]:
        """The model's first choice for every fact, as a word."""
        return tuple(answers[0][0] if answers else "" for answers in self.result.answers)

    def probes(self, fact: int) -> Probes:
        """What to ask about an edit of a fact."""
        from kis_core import editing

        return editing.probes(self.facts[fact], self.known_facts)

    def scores(self, forecast: Forecast, outcome: EditOutcome) -> dict[str, np.ndarray]:
        """Forecast damage of every fact, by all forecasts and rivals; larger means more."""
        from kis_core import spillover

        if outcome.scores is not None:
            return dict(outcome.scores)
        request, facts = outcome.request, self.sensitivity(outcome.request.layer)
        return {
            "all tokens": -forecast.all_tokens,
            "subject token": -forecast.subject_token,
            "propagated": -outcome.propagated,
        } | spillover.rivals.rivals(self.result, facts, forecast.edit, request.fact)

    def quality(self, forecast: Forecast, outcome: EditOutcome) -> pd.DataFrame:
        """How good each forecast was; see `spillover.quality`."""
        from kis_core import spillover

        return spillover.quality(
            self.scores(forecast, outcome), -outcome.measured.log_odds, outcome.flipped, without=outcome.request.fact
        )

    def table(self, forecast: Forecast, outcome: EditOutcome) -> pd.DataFrame:
        """Forecast and measurement, one row a fact; see `spillover.table`."""
        from kis_core.spillover.table import table

        strength, measured = outcome.strength, outcome.measured
        numbers = {
            "p": forecast.p,
            "share": forecast.shares,
            "shift_predicted": forecast.shift * strength,
            "shift_measured": measured.shift,
            "dlogodds_first_order": forecast.subject_token * strength,
            "dlogodds_all_tokens": forecast.all_tokens * strength,
            "dlogodds_propagated": outcome.propagated,
            "dlogodds_measured": measured.log_odds,
            "dlogp_measured": measured.log_prob,
        }
        return table([fact.subject for fact in self.facts], self.answers_before, numbers, measured.answers)

    def advised(self, request: EditRequest) -> bool:
        """Whether `advise` has tried every layer already."""
        return all(("advice", replace(request, layer=layer)) in self._kept for layer in self.result.layers)

    def advise(self, request: EditRequest, report: progress.Report = progress.silent) -> Iterator[Advice]:
        """The same edit in each layer, one after the other: forecast damage against success."""
        for done, layer in enumerate(self.result.layers):
            report(ADVICE, done, len(self.result.layers))
            yield self._kept.once(("advice", replace(request, layer=layer)), partial(self._advice, request, layer))
        report(ADVICE, len(self.result.layers), len(self.result.layers))

    def _advice(self, request: EditRequest, layer: int) -> Advice:
        from kis_core import editing

        if not self.reaches(request.fact, layer):
            return Advice(layer, reaches=False)
        forecast = self.forecast(replace(request, layer=layer))
        success = editing.succeeded(
            self.model, forecast.edit, self.facts[request.fact], request.target, self.probes(request.fact)
        )
        others = np.delete(forecast.all_tokens, request.fact)
        flips = forecast.flips.by(1.0) if forecast.flips else {}
        return Advice(
            layer,
            True,
            success.efficacy,
            success.probability_new,
            success.paraphrase,
            float(np.abs(others).mean()) if len(others) else float("nan"),
            sum(fact != request.fact for fact in flips),
        )
