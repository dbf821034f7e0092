"""The simulator itself: a model, its facts and C; edits go in, forecasts and measurements come out.

What needs the model loads it at the first need; values and gradients are kept in the store, so that a known edit opens
without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kis_core import progress
from kis_core.analysis import pipeline
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.files.field_text import fault, tidy
from kis_core.models import catalog
from kis_core.request import RequestError
from kis_core.results.result import Result
from kis_core.simulator.edit_records import Advice, EditOutcome, EditRequest, FlipForecast, Forecast
from kis_core.simulator.stored import LeastRecentlyUsed, value_from_entry, value_to_entry
from kis_core.store.store import Entry, Store, key_of

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener
    from kis_core.editing import Edit, Hyperparameters, Probes, Recipe, Value
    from kis_core.models.loaded import LoadedModel
    from kis_core.scoring.log_odds import Sentence
    from kis_core.spillover import Sensitivity

FORMAT = 2  # raise it when the meaning of a stored value or gradient changes
MOST_STRENGTH = 1.5
ADVICE = "Trying the layers"
FLIPS_AT_ONCE = 256  # facts whose logits over the whole vocabulary are held at a time


@dataclass(eq=False)
class Simulator:
    """Edits of one model on one fact set. Safe to share between threads: nothing of an edit stays in it or the model.

    Attributes:
        result: the analysis; its facts are those looked at.
        store: where values and gradients are kept.
        load: gets the model; called whenever it is needed, so it had better keep it.
    """

    result: Result
    store: Store
    load: Callable[[], LoadedModel]
    _kept: LeastRecentlyUsed = field(default_factory=LeastRecentlyUsed)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts looked at."""
        return self.result.facts.facts

    @cached_property
    def known_facts(self) -> KnownFacts:
        """What else the model knows."""
        return catalog.known_facts(self.result.request.model, self.facts)

    @property
    def model(self) -> LoadedModel:
        """The model; whoever made the simulator decides how long it stays in memory.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self.load()

    @cached_property
    def recipe(self) -> Recipe:
        """What to start from for this model."""
        from kis_core import editing

        source = self.result.provenance
        return editing.recipe(self.result.request.model, width=source["width"], layers=source["layers_in_model"])

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The facts as the model reads them, answers included."""
        from kis_core.scoring.log_odds import tokenize_sentences

        return tokenize_sentences(self.model.tokenizer, self.facts, context=self.model.context)

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
        wanted = tidy(target)  # what nobody sees at its ends makes other tokens
        if why := fault(wanted):
            raise editing.EditError(f"the new object {why}")
        return EditRequest(fact, wanted, layer, method, replace(self.recipe.hyperparameters, **how))

    def reaches(self, fact: int, layer: int) -> bool:
        """Whether an edit of a fact in a layer can reach the answer; needs no model."""
        from kis_core.editing import reaches_answer

        ends = self.facts[fact].prompt.rstrip().endswith("{}")
        return reaches_answer(layer=layer, layers=self.result.provenance["layers_in_model"], ends_with_subject=ends)

    def whitener(self, layer: int, report: progress.Report = progress.silent) -> Whitener:
        """C of a layer, factorised."""
        from kis_core.covariance.whitener import Whitener

        return self._kept.once(
            ("whitener", layer),
            lambda: Whitener.fit(
                pipeline.second_moment(self.result, layer, self.store, lambda: self.model, report)
            ),
        )  # fmt: skip

    def sensitivity(self, layer: int, report: progress.Report = progress.silent) -> Sensitivity:
        """How the facts' answers depend on a layer; from the store, or one backward pass."""
        from kis_core import spillover

        def compute() -> Entry:
            found = spillover.sensitivity(self.model, self.sentences, layer, report=report)
            return Entry({"layer": layer}, found.arrays())

        def read() -> Sensitivity:
            entry = self.store.get_or_compute(
                self.sensitivity_key(layer), compute, report, m=len(self.facts), **self.widths
            )
            return spillover.Sensitivity(layer, **entry.arrays)

        return self._kept.once(("sensitivity", layer), read)

    def value(
        self,
        request: EditRequest,
        *,
        seen: Callable[[float], None] | None = None,
        report: progress.Report = progress.silent,
    ) -> Value:
        """The value of an edit; from the store, or searched for now.

        Args:
            request: the edit.
            seen: told the loss of every step of a search.
            report: called after every step.
        """
        from kis_core import editing

        whitener = self.whitener(request.layer, report)
        method = editing.rank_one_method(request.method)

        def compute() -> Entry:
            value = editing.search(
                self.model,
                self.facts[request.fact],
                request.target,
                request.layer,
                request.how,
                reach=lambda key, mean: method.reach(key, mean, whitener, request.how),
                prefixes=self.prefixes(request.how),
                seen=seen,
                report=report,
            )
            return value_to_entry(value)

        return self._kept.once(
            ("value", request),
            lambda: value_from_entry(
                self.store.get_or_compute(self.value_key(request), compute, report, **self.widths)
            ),
        )

    @property
    def widths(self) -> dict[str, int]:
        """Sizes of the model, d and d_m, as `schema` calls them."""
        source = self.result.provenance
        return {"d": source["width"], "d_m": source["mlp_width"]}

    def known(self, request: EditRequest) -> bool:
        """Whether forecasts of this edit need no model: its value, C and the gradients are stored."""
        layer = request.layer
        needed = {
            ("value", request): self.value_key(request),
            ("whitener", layer): pipeline.second_moment_key(self.result, layer),
            ("sensitivity", layer): self.sensitivity_key(layer),
        }
        return all(what in self._kept or self.store.holds(key) for what, key in needed.items())

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
            seen: told the loss of every step of a search.
            report: called as the work goes on.
        """
        report("Loading the model", 0, 1)
        _ = self.model
        report("Loading the model", 1, 1)
        self.sensitivity(request.layer, report)
        self.value(request, seen=seen, report=report)
        self.forecast(request)

    def value_key(self, request: EditRequest) -> str:
        """Name of a value in the store."""
        fact = self.facts[request.fact]  # not its number: a value found for a subset is that of the whole
        asked = request.to_json() | {"fact": [fact.subject, fact.prompt]}
        return key_of("value", {"of": self.result.key, "format": FORMAT, "request": asked})

    def edit(self, request: EditRequest) -> Edit:
        """The edit of full strength."""
        from kis_core import editing

        method = editing.rank_one_method(request.method)
        return method.edit(self.value(request), self.whitener(request.layer), request.layer, request.how)

    def forecast(self, request: EditRequest, *, flips: bool = True) -> Forecast:
        """What the edit would do, before it is made.

        Args:
            request: the edit.
            flips: also foretell which answers change, which runs the model once.
        """
        return self._kept.once(("forecast", request, flips), lambda: self._forecast(request, flips))

    def _forecast(self, request: EditRequest, flips: bool) -> Forecast:
        from kis_core import editing
        from kis_core.spillover import forecast, landing

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
        """What is to be said of an edit, before it is made or after; see `spillover.landing`."""
        from kis_core.spillover import landing

        if outcome is None:
            return landing.warnings(forecast.landing, self.facts, own_key=forecast.own_key)
        return landing.warnings(
            forecast.landing, self.facts, own_key=forecast.own_key, edit=forecast.edit.scaled(outcome.strength),
            measured=outcome.measured, without=outcome.request.fact,
        )  # fmt: skip

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
        return ("outcome", request, strength) in self._kept

    def foretold(self, request: EditRequest) -> bool:
        """Whether `forecast` knows all it tells already."""
        return ("forecast", request, True) in self._kept

    def _perform(self, request: EditRequest, strength: float, report: progress.Report) -> EditOutcome:
        from kis_core import editing, spillover

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
        """Damage foretold for every fact, by all forecasts and rivals; larger means more."""
        from kis_core import spillover

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
        """Everything foretold and measured, one row a fact; see `spillover.table`."""
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
        """Whether `advise` knows all it tells already."""
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
        found = editing.succeeded(
            self.model, forecast.edit, self.facts[request.fact], request.target, self.probes(request.fact)
        )
        others = np.delete(forecast.all_tokens, request.fact)
        flips = forecast.flips.by(1.0) if forecast.flips else {}
        return Advice(
            layer,
            True,
            found.efficacy,
            found.probability_new,
            found.paraphrase,
            float(np.abs(others).mean()) if len(others) else float("nan"),
            sum(fact != request.fact for fact in flips),
        )

    def prefixes(self, how: Hyperparameters) -> list[str]:
        """The random beginnings that go with these hyper-parameters."""
        from kis_core.editing.contexts import random_prefixes

        return self._kept.once(("prefixes", how.prefixes, how.seed), lambda: random_prefixes(self.model, how))

    def sensitivity_key(self, layer: int) -> str:
        """Name of the gradients of a layer in the store."""
        return key_of("sensitivity", {"of": self.result.identity, "format": FORMAT, "layer": layer})
