"""A model under stand-in edits: the planned edits with their own keys, but values that were not searched for.

The method itself makes them, so what an edit reaches, how a batch is solved and how it is spread over layers are those
of the real run; only δ is another's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from kis_core import progress
from kis_core.editing import Change, DenseEdit, Edit, EditError, RequestedEdit, Site, applied, method
from kis_core.editing.finding import Found, found_by
from kis_core.lifelong import model_health
from kis_core.lifelong.queue import Queue
from kis_core.lifelong.request import LifelongRequest
from kis_core.spillover import observe

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

NAN = float("nan")
Draw = Callable[[int, float], np.ndarray]
"""A δ, (d,), for a layer, and for what the edits before left there (`StandIns.carried`)."""


@dataclass(frozen=True, eq=False)
class Health:
    """What a model under stand-in edits still does.

    Attributes:
        recall: share of the unrelated facts answered right at first that still are; NaN where none was.
        log_odds: of the right answers to all unrelated facts, on average.
        perplexity: on text held out.
        by_fact: (m,) log-odds of the right answer to each unrelated fact.
    """

    recall: float
    log_odds: float
    perplexity: float
    by_fact: np.ndarray


class Plan:
    """A planned run, with what every forecast of it shares.

    Attributes:
        known: (m,) booleans, unrelated facts that the unedited model answers.
    """

    def __init__(
        self, simulator: Simulator, request: LifelongRequest, queue: Queue, report: progress.Report = progress.silent
    ) -> None:
        self.simulator, self.request, self.queue = simulator, request, queue
        self.method = method(request.method)
        self.model = simulator.model
        self.layers = request.layers
        self.whiteners = {layer: simulator.whitener(layer, report) for layer in self.layers}
        self.prefixes = simulator.prefixes(request.how)
        self.anchors = simulator.anchors(self.method, self.layers, request.how, request.settings, report)
        self.sentences = [simulator.sentences[j] for j in queue.unrelated]
        unrelated = list(queue.unrelated)
        self.subject_keys = [simulator.sensitivity(layer, report).subject_keys[unrelated] for layer in self.layers]
        self.text = model_health.held_out(simulator)
        self.known = observe(self.model, self.sentences, self.layers[0]).rank == 1


class StandIns:
    """The model of a plan as stand-in edits leave it.

    Attributes:
        done: how many edits of the queue it has behind it.
        sizes: ‖δ‖ of every stand-in so far.
    """

    def __init__(self, plan: Plan, turning: np.random.Generator | None = None) -> None:
        """Before the first edit.

        Args:
            plan: the run.
            turning: where given, every edit gets a key of random direction, see `_turned`.
        """
        self.plan, self.turning = plan, turning
        width, mlp_width = plan.model.architecture.widths
        self.total = {layer: np.zeros((width, mlp_width)) for layer in plan.layers}
        self.past = {layer: np.zeros((0, mlp_width)) for layer in plan.layers}
        self.done = 0
        self.sizes: list[float] = []

    @property
    def carried(self) -> float:
        """x: what the edits so far add at the subjects of the unrelated facts, root mean square over these.

        Over several layers what each adds is summed, as their outputs are in the residual stream, with the keys of the
        unedited model: approximate beyond the first of them, where keys move.
        """
        if not len(self.plan.sentences):
            return 0.0
        moved = sum(
            keys.astype(np.float64) @ self.total[layer].T
            for layer, keys in zip(self.plan.layers, self.plan.subject_keys, strict=True)
        )
        return float(np.sqrt((np.asarray(moved) ** 2).sum(axis=1).mean()))

    def make(self, edits: int, draw: Draw) -> None:
        """Go on along the queue until so many edits are made; those that cannot be made are passed over."""
        queue, batch = self.plan.queue.edits[:edits], self.plan.request.batch
        while self.done < len(queue):
            carried = self.carried

            def drawn(layer: int, _: Callable[[], Found], carried: float = carried) -> Found:
                delta = draw(layer, carried)
                self.sizes.append(float(np.linalg.norm(delta)))
                return Found(delta, (NAN,), NAN)

            requested = queue[self.done : self.done + batch]
            self.done += len(requested)
            try:
                with found_by(drawn):
                    performed = self.plan.method.perform(self._site(), requested)
            except EditError:
                continue
            for edit in performed:
                for change in map(self._turned, edit.changes):
                    self.total[change.layer] = self.total[change.layer] + change.matrix
                for layer, key in zip(self.plan.layers, edit.keys, strict=True):
                    self.past[layer] = np.concatenate([self.past[layer], key[None]])

    def searched(self, edit: RequestedEdit, report: progress.Report) -> list[tuple[int, np.ndarray]]:
        """The δ's that a method's searches find for one edit here, with their layers; none if it cannot be made."""
        found: list[tuple[int, np.ndarray]] = []

        def noted(layer: int, search: Callable[[], Found]) -> Found:
            result = search()
            found.append((layer, result.delta))
            return result

        try:
            with found_by(noted):
                self.plan.method.perform(self._site(), [edit], report)
        except EditError:
            return []
        return found

    def health(self) -> Health:
        """Look at the model as it stands."""
        plan = self.plan
        with applied(plan.model, *self._in_use()):
            seen = observe(plan.model, plan.sentences, plan.layers[0])
            perplexity = model_health.read(plan.model, plan.text)
        recall = float((seen.rank[plan.known] == 1).mean()) if plan.known.any() else NAN
        mean = float(seen.log_odds.mean()) if len(seen.log_odds) else NAN
        return Health(recall, mean, perplexity, seen.log_odds)

    def _turned(self, change: Change) -> Change:
        """The edit as it is, or with a key of random direction after whitening.

        √(uᵀCu), its root mean square share on general text, stays: what goes is that keys of facts lie alike.
        """
        if self.turning is None or not isinstance(change, Edit):
            return change
        factor = self.plan.whiteners[change.layer].factor
        random = self.turning.normal(size=len(factor))
        random *= np.linalg.norm(factor.T @ change.reach) / np.linalg.norm(random)
        return replace(change, reach=scipy.linalg.solve_triangular(factor, random, lower=True, trans="T"))

    def push(self, carried: float, rng: np.random.Generator) -> None:
        """Put a random ΔW in the place of edits, in the last layer: Gaussian after whitening, with x as given."""
        layer = self.plan.layers[-1]
        factor = self.plan.whiteners[layer].factor
        noise = rng.normal(size=self.total[layer].shape)
        self.total[layer] = scipy.linalg.solve_triangular(factor, noise.T, lower=True, trans="T").T
        self.total[layer] = self.total[layer] * (carried / self.carried)

    def _standing(self) -> tuple[Change, ...]:
        return tuple(DenseEdit(layer, total) for layer, total in self.total.items())

    def _in_use(self) -> tuple[Change, ...]:
        """The edits so far as the model that is measured has them; see `Method.restrain`."""
        plan, restrain = self.plan, self.plan.method.restrain
        if restrain is None:
            return self._standing()
        weights = {at: plan.model.architecture.weight(at).double().cpu().numpy() for at in self.total}
        both = self.total.items()
        return tuple(DenseEdit(at, restrain(weights[at], total, plan.request.settings)) for at, total in both)

    def _site(self) -> Site:
        plan = self.plan
        return Site(
            plan.model,
            plan.layers,
            plan.whiteners,
            plan.request.how,
            plan.request.settings,
            plan.prefixes,
            standing=self._standing(),
            past=self.past,
            anchors=plan.anchors,
        )
