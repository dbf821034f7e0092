"""What edits of a model rest on: C and the gradients of each layer, and the values that were searched for.

What needs the model loads it at the first need; values and gradients are kept in the store, so that a known edit opens
without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kis_core import progress
from kis_core.analysis import pipeline
from kis_core.errors import refuse_if_read_only
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.models import catalog
from kis_core.read_only import read_only
from kis_core.results.result import Result
from kis_core.simulator.edit_records import EditRequest
from kis_core.simulator.stored import WorkedOut, value_from_entry, value_to_entry
from kis_core.store.store import Entry, Store, key_of

if TYPE_CHECKING:
    from kis_core.covariance.whitener import Whitener
    from kis_core.editing import Hyperparameters, Method, ModelScale, Recipe, Settings, Value
    from kis_core.models.loaded import LoadedModel
    from kis_core.scoring.log_odds import Sentence
    from kis_core.spillover import Sensitivity

FORMAT = 2  # raise it when the meaning of a stored value or gradient changes


@dataclass(eq=False)
class Groundwork:
    """The model, facts and C of an analysis, with what was worked out of them for edits.

    Safe to share between threads: nothing of an edit stays in it or the model.

    Attributes:
        result: the analysis; its facts are those looked at.
        store: where values and gradients are kept.
        load: gets the model; called whenever it is needed, so it had better keep it.
    """

    result: Result
    store: Store
    load: Callable[[], LoadedModel]
    _kept: WorkedOut = field(default_factory=WorkedOut)

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
        from kis_core.editing import recipe

        scale = self.scale
        return recipe(scale.model, width=scale.width, layers=scale.layers)

    @property
    def scale(self) -> ModelScale:
        """The model's name and sizes, which settings are chosen by; needs no model."""
        from kis_core.editing import ModelScale

        source = self.result.provenance
        return ModelScale(self.result.request.model, source["layers_in_model"], source["width"], source["mlp_width"])

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The facts as the model reads them, answers included."""
        from kis_core.scoring.log_odds import tokenize_sentences

        return tokenize_sentences(self.model.tokenizer, self.facts, context=self.model.context)

    def whitener(self, layer: int, report: progress.Report = progress.silent) -> Whitener:
        """C of a layer, factorised; of a wide model that takes minutes, so read-only mode refuses it."""
        from kis_core.covariance.whitener import Whitener

        def fit() -> Whitener:
            refuse_if_read_only("Factorising C")
            return Whitener.fit(pipeline.second_moment(self.result, layer, self.store, lambda: self.model, report))

        return self._kept.once(("whitener", layer), fit)

    def sensitivity(self, layer: int, report: progress.Report = progress.silent) -> Sensitivity:
        """How the facts' answers depend on a layer; from the store, or one backward pass."""
        from kis_core import spillover

        def compute() -> Entry:
            computed = spillover.sensitivity(self.model, self.sentences, layer, report=report)
            return Entry({"layer": layer}, computed.arrays())

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
            seen: called with the loss of every step of a search.
            report: called after every step.
        """
        from kis_core import editing
        from kis_core.editing import rank_one

        method = editing.rank_one_method(request.method)

        def compute() -> Entry:
            whitener = self.whitener(request.layer, report)
            anchors = self.anchors(method, (request.layer,), request.how, report=report)
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
            return value_to_entry(value.rescaled(anchors.get(request.layer), rank_one.MOST_ANCHORS))

        def read() -> Value:
            return value_from_entry(self.store.get_or_compute(self.value_key(request), compute, report, **self.widths))

        return self._kept.once(("value", request), read)

    @property
    def widths(self) -> dict[str, int]:
        """Sizes of the model, d and d_m, as `schema` calls them."""
        return {"d": self.scale.width, "d_m": self.scale.mlp_width}

    def known(self, request: EditRequest) -> bool:
        """Whether forecasts of this edit need no model: its value, C and the gradients are stored."""
        layer = request.layer
        needed = {
            ("value", request): self.value_key(request),
            ("whitener", layer): pipeline.second_moment_key(self.result, layer),
            ("sensitivity", layer): self.sensitivity_key(layer),
        }
        return not read_only() and all(name in self._kept or self.store.holds(key) for name, key in needed.items())

    def value_key(self, request: EditRequest) -> str:
        """Name of a value in the store."""
        fact = self.facts[request.fact]  # not its number: a value found for a subset is that of the whole
        determined = request.to_json() | {"fact": [fact.subject, fact.prompt]}
        of = self._anchored_to if request.how.nas else self.result.key
        return key_of("value", {"of": of, "format": FORMAT, "request": determined})

    def prefixes(self, how: Hyperparameters) -> list[str]:
        """The random beginnings that go with these hyper-parameters."""
        from kis_core.editing.contexts import random_prefixes

        return self._kept.once(("prefixes", how.prefixes, how.seed), lambda: random_prefixes(self.model, how))

    def weight(self, layer: int) -> np.ndarray:
        """W of a layer, (d, d_m) float64."""
        return np.asarray(self.model.architecture.weight(layer).double().cpu().numpy())

    def settings(self, method: Method) -> Settings:
        """The terms of a method that suit the model."""
        return method.settings.suited(self.scale)

    def anchors(
        self,
        method: Method,
        layers: Sequence[int],
        how: Hyperparameters,
        settings: Settings | None = None,
        report: progress.Report = progress.silent,
    ) -> dict[int, float]:
        """By layer, the norm that values are rescaled to where `how` says `nas`, and nothing where it does not.

        Args:
            method: that writes the values.
            layers: that values are searched for in.
            how: values are searched for.
            settings: the method's own; those that suit the model by default.
            report: called as the search for values goes on.
        """
        from kis_core.editing import Site, anchor

        if not how.nas:
            return {}
        terms = settings or self.settings(method)
        determined_by = {"of": self._anchored_to, "format": FORMAT, "edits": anchor.EDITS, "method": method.name}
        determined_by |= {"hyperparameters": how.to_json(), "settings": terms.to_json()}

        def measured(layer: int) -> float:
            def compute() -> Entry:
                whiteners = {layer: self.whitener(layer, report)}
                site = Site(self.model, (layer,), whiteners, how, terms, self.prefixes(how))
                return Entry(
                    {"norms": anchor.norms(method, site, anchor.edits(self.known_facts, anchor.EDITS), report)}, {}
                )

            key = key_of("norm-anchor", determined_by | {"layer": layer})
            return anchor.trimmed_mean(self.store.get_or_compute(key, compute, report).meta["norms"])

        return {layer: measured(layer) for layer in anchor.layers(method, layers)}

    @property
    def _anchored_to(self) -> dict[str, str]:
        """What the edits of an anchor are drawn from."""
        return {"result": self.result.identity, "drawn_from": self.known_facts.fingerprint}

    def sensitivity_key(self, layer: int) -> str:
        """Name of the gradients of a layer in the store."""
        return key_of("sensitivity", {"of": self.result.identity, "format": FORMAT, "layer": layer})
