"""One edit after another on one layer or a few, as overlays; measured as it goes (eq. 3-5, 11 and 15; App. H).

W itself is never written to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import progress
from kis_core.editing import Change, DenseEdit, Edit, EditError, PerformedEdit, RequestedEdit, Site, applied, method
from kis_core.errors import shown
from kis_core.keys import Prompt, fact_keys
from kis_core.lifelong import model_health
from kis_core.lifelong.queue import Queue
from kis_core.lifelong.request import STAGE, LifelongRequest
from kis_core.lifelong.run_state import RunState
from kis_core.lifelong.trace import EDITS, OF_EDITS, OF_RESULT, STEPS, EditTrace, from_entry, to_entry
from kis_core.scoring.log_odds import Sentence, tokenize_sentences
from kis_core.spillover import Sensitivity, observe, sensitivity
from kis_core.spillover.forecast import all_tokens, subject_token
from kis_core.store.store import Entry, StoreError

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel
    from kis_core.simulator import Simulator

log = logging.getLogger(__name__)

SAVED_SECONDS = 2.0  # between two times that a run is stored
Seen = Callable[[EditTrace], None]


class SequenceRun:
    """A run while it goes on: it edits a batch, measures, and stores what it measured.

    Making one raises an EditError where the method edits no such model.

    Attributes:
        unrelated: (m,) numbers of the facts that are not edited; `sentences` are theirs.
        edited: the edits' facts with their new objects, as sentences.
        edited_keys: (n, d_m), their keys in the first edited layer.
        sensitivities: of the facts' answers to each layer of the unedited model.
        gradients: the same, of the model at the last measurement.
        rows: what `trace` is made of: for each of its arrays, one entry a measured step or edit.
        timed, seconds: how many edits this object made, and how long they took, measuring left out.
    """

    def __init__(
        self, simulator: Simulator, request: LifelongRequest, queue: Queue, name: str, report: progress.Report
    ) -> None:
        self.simulator, self.request, self.queue, self.name, self.report = simulator, request, queue, name, report
        self.method = method(request.method)
        self.model = simulator.model
        self.layers = request.layers
        self.method.check_model(self.model, self.layers)  # else each of its edits would be passed over
        self.sensitivities = [simulator.sensitivity(layer, report) for layer in self.layers]
        self.whiteners = {layer: simulator.whitener(layer, report) for layer in self.layers}
        self.prefixes = simulator.prefixes(request.how)
        self.anchors = simulator.anchors(self.method, self.layers, request.how, request.settings, report)
        self.unrelated = np.array(queue.unrelated, dtype=np.int64)
        self.sentences = [simulator.sentences[j] for j in queue.unrelated]
        self.edited = _with_new_objects(simulator, queue.edits)
        self.edited_keys = _keys_at(self.model, self.edited, self.layers[0])
        self.text = model_health.held_out(simulator)
        self.own_norms = [float(np.linalg.norm(self._weight(layer))) for layer in self.layers]
        self.saved = time.monotonic()
        self.timed, self.seconds = 0, 0.0

    def _weight(self, layer: int) -> np.ndarray:
        return np.asarray(self.model.architecture.weight(layer).double().cpu().numpy())

    def begin(self) -> None:
        """Look at the model before the first edit."""
        width, mlp_width = self.model.architecture.widths
        layers, unrelated = len(self.layers), len(self.unrelated)
        self.state = RunState(
            total=np.zeros((layers, width, mlp_width)),
            past=np.zeros((layers, 0, mlp_width)),
            wrote=np.zeros((0, width), dtype=np.float32),
            then=np.zeros((layers, width, mlp_width)),
            renewed=np.zeros(unrelated),
            moved=np.zeros((unrelated, width)),
            moved_edits=np.zeros((0, width)),
        )
        self.gradients = self.sensitivities
        self.rows: dict[str, list[Any]] = {name: [] for name in (*STEPS, *EDITS)}
        self.words: list[tuple[tuple[str, str], ...]] = []
        self._measure()

    def resume(self, entry: Entry) -> bool:
        """Go on from what is stored, if it is of the same queue and text and holds what the run had come to."""
        trace, state = from_entry(entry), RunState.of(entry.arrays)
        if (
            state is None
            or not self.queue.begins_like(trace.queue)
            or trace.unrelated.tolist() != self.unrelated.tolist()
            or trace.text != self.text.source
        ):
            return False
        self.state = self.measured_state = state
        self.rows = {name: list(getattr(trace, name)) for name in (*STEPS, *EDITS)}
        self.words = list(trace.words)
        self.gradients = self._renewed_gradients()
        return True

    @property
    def trace(self) -> EditTrace:
        """What was measured so far."""
        steps = self.rows["steps"]
        made = int(steps[-1])
        stacked: dict[str, Any] = {name: np.stack(self.rows[name]) for name in STEPS if name not in OF_EDITS}
        for name in OF_EDITS:
            fill = 0 if name == "edited_rank" else np.nan
            stacked[name] = np.stack([_widened(row, made, fill) for row in self.rows[name]])
        for name, kind in (("took", bool), ("made", bool), ("own_key", bool), ("size", float)):
            stacked[name] = np.array(self.rows[name][:made], dtype=kind)
        for name in ("contributions", "shares"):
            stacked[name] = np.reshape(self.rows[name][:made], (made, len(self.unrelated)))
        return EditTrace(
            queue=tuple(map(tuple, self.queue.rows()[:made])),
            unrelated=self.unrelated,
            words=tuple(self.words),
            text=self.text.source,
            **stacked,
        )

    def go(self, seen: Seen | None) -> Iterator[None]:
        """Edit and measure to the end; yields after every measurement."""
        if seen:
            seen(self.trace)
        try:
            while (done := len(self.state.past[0])) < len(self.queue.edits):
                batch = self.queue.edits[done : done + self.request.batch]
                self._edit(batch)
                now = done + len(batch)
                if now == len(self.queue.edits) or now // self.request.every > done // self.request.every:
                    self._measure()
                    if time.monotonic() - self.saved > SAVED_SECONDS:
                        self._save()
                    if seen:
                        seen(self.trace)
                    yield
        finally:
            self._save()

    def _save(self) -> None:
        """Store the run as it was when last measured."""
        trace, at = to_entry(self.trace), self.measured_state
        meta = trace.meta | {"about": self._about()}
        try:
            self.simulator.store.put(self.name, meta, trace.arrays | at.arrays())
        except StoreError as error:
            log.warning("measured but not kept: %s", shown(str(error)))
        self.saved = time.monotonic()

    def _about(self) -> dict[str, str]:
        """What the run is and of which result, for those who open no run."""
        result, made = self.simulator.result, self.trace.edits
        name = f"{made} edit{'' if made == 1 else 's'}, {self.request.label}"
        names = {part: str(result.provenance[part]) for part in ("facts", "corpus")}
        return {"name": name, "model": result.request.model, OF_RESULT: result.identity} | names

    def standing(self) -> tuple[Change, ...]:
        """The edits so far, as the model that is measured has them."""
        return self._dense(self._restrained(self.state.total))

    def _dense(self, by_layer: np.ndarray) -> tuple[DenseEdit, ...]:
        return tuple(DenseEdit(layer, matrix) for layer, matrix in zip(self.layers, by_layer, strict=True))

    def _restrained(self, total: np.ndarray) -> np.ndarray:
        """ΔW of the model that is measured, from that of all edits, both (layers, d, d_m); see `Method.restrain`."""
        restrain, settings = self.method.restrain, self.request.settings
        if restrain is None:
            return total
        both = zip(self.layers, total, strict=True)
        return np.stack([restrain(self._weight(layer), change, settings) for layer, change in both])

    def _edit(self, batch: Sequence[RequestedEdit]) -> None:
        state, done = self.state, len(self.state.past[0])

        def searching(stage: str, step: int, steps: int) -> None:
            self.report(STAGE, done, len(self.queue.edits))

        site = Site(
            self.model,
            self.layers,
            self.whiteners,
            self.request.how,
            self.request.settings,
            self.prefixes,
            standing=self._dense(state.total),
            past=dict(zip(self.layers, state.past, strict=True)),
            anchors=self.anchors,
        )
        began = time.monotonic()
        performed = self._performed(site, batch, searching)
        self.timed, self.seconds = self.timed + len(batch), self.seconds + time.monotonic() - began
        changes = [list(edit.changes) if edit else [] for edit in performed]
        total = state.total.copy()
        for own in changes:
            for change in own:
                total[self.layers.index(change.layer)] += change.matrix
        if self.method.restrain is not None:  # what the edit did to the model that is measured
            done_to_it = self._dense(self._restrained(total) - self._restrained(state.total))
            changes = [list(done_to_it) if own else [] for own in changes]
        keys = np.stack([edit.keys if edit else self._missing_key() for edit in performed], axis=1)  # (layers, b, d_m)
        first = [next((change for change in own if change.layer == self.layers[0]), None) for own in changes]
        moved, later = state.moved.copy(), state.moved_edits.copy()
        for first_change in first:
            if first_change is not None:
                moved += first_change.moves(self.sensitivities[0].subject_keys[self.unrelated])
                later += first_change.moves(self.edited_keys[:done])
        self.state = replace(
            state,
            total=total,
            past=np.concatenate([state.past, keys], axis=1),
            moved=moved,
            moved_edits=np.concatenate([later, np.zeros((len(batch), total.shape[1]))]),
        )
        with applied(self.model, *self.standing()):
            right_after = observe(self.model, self.edited[done : done + len(batch)], self.layers[0])
        self.state.wrote = np.concatenate([state.wrote, right_after.outputs])
        for at, (edit, own) in enumerate(zip(performed, changes, strict=True)):
            self.rows["took"].append(bool(right_after.rank[at] == 1) and edit is not None)
            self.rows["made"].append(edit is not None)
            self.rows["own_key"].append(edit is not None and edit.own_key)
            self.rows["size"].append(float(np.sqrt(sum(np.linalg.norm(change.matrix) ** 2 for change in own))))
            self.rows["contributions"].append(self._summed_forecasts(own, all_tokens))
            self.rows["shares"].append(self._shares(first[at]))

    def _performed(
        self, site: Site, batch: Sequence[RequestedEdit], report: progress.Report
    ) -> list[PerformedEdit | None]:
        """The edits of a batch; one that cannot be made is passed over (a batch of several, as a whole)."""
        try:
            return list(self.method.perform(site, batch, report))
        except EditError:
            return [None] * len(batch)

    def _missing_key(self) -> np.ndarray:
        return np.zeros((len(self.layers), self.model.architecture.widths[1]))

    def _renewed_gradients(self) -> list[Sensitivity]:
        """How the answers depend on each layer as the edits so far left the model."""
        with applied(self.model, *self.standing()):
            return [sensitivity(self.model, self.simulator.sentences, layer) for layer in self.layers]

    def _since(self) -> tuple[DenseEdit, ...]:
        """What the edits since the last measurement did to each layer."""
        return self._dense(self._restrained(self.state.total) - self.state.then)

    def _summed_forecasts(
        self,
        changes: Sequence[Change],
        forecast: Callable[[Change, Sensitivity], np.ndarray],
        gradients: Sequence[Sensitivity] | None = None,
    ) -> np.ndarray:
        total = np.zeros(len(self.simulator.facts))
        for change in changes:
            total += forecast(change, (gradients or self.sensitivities)[self.layers.index(change.layer)])
        return total[self.unrelated]

    def _shares(self, change: Change | None) -> np.ndarray:
        if isinstance(change, Edit):
            return change.coefficients(self.sensitivities[0].subject_keys[self.unrelated])
        return np.full(len(self.unrelated), np.nan if change is not None else 0.0)

    def _measure(self) -> None:
        change = self._summed_forecasts(self._since(), all_tokens, self.gradients) if self.rows["steps"] else 0.0
        self.state = replace(self.state, renewed=self.state.renewed + change, then=self._restrained(self.state.total))
        state, made = self.state, len(self.state.past[0])
        self.report(STAGE, made, len(self.queue.edits))
        standing = self.standing()
        with applied(self.model, *standing):
            others = observe(self.model, self.sentences, self.layers[0])
            own = observe(self.model, self.edited[:made], self.layers[0])
            newest = self.queue.edits[max(0, made - 1)].fact
            about = [newest, self.queue.edits[0].fact, *(self.simulator.facts[j] for j in self.unrelated[:1])]
            self.words.append(model_health.say(self.model, about))
            perplexity = model_health.read(self.model, self.text)
        moved = others.outputs.astype(np.float64) - self.sensitivities[0].outputs[self.unrelated]
        moved_edits = own.outputs.astype(np.float64) - state.wrote
        drift = [float(np.linalg.norm(total)) / norm for total, norm in zip(state.then, self.own_norms, strict=True)]
        condition = [
            model_health.condition_number(self.model.architecture.weight(layer), total)
            for layer, total in zip(self.layers, state.then, strict=True)
        ]
        measured = {
            "steps": made,
            "log_odds": others.log_odds,
            "log_prob": others.log_prob,
            "rank": others.rank,
            "subject_token": self._summed_forecasts(standing, subject_token),
            "all_tokens": self._summed_forecasts(standing, all_tokens),
            "renewed": state.renewed,
            "shift": _norms(moved),
            "shift_forecast": _norms(state.moved),
            "shift_error": _norms(moved - state.moved),
            "edited_log_odds": own.log_odds,
            "edited_log_prob": own.log_prob,
            "edited_rank": own.rank,
            "edited_shift": _norms(moved_edits),
            "edited_shift_forecast": _norms(state.moved_edits),
            "edited_shift_error": _norms(moved_edits - state.moved_edits),
            "drift": np.array(drift),
            "condition": np.array(condition),
            "perplexity": perplexity,
        }
        for name, value in measured.items():
            self.rows[name].append(value)
        if made:
            self.gradients = self._renewed_gradients()
        self.measured_state = state
        self.report(STAGE, made, len(self.queue.edits))


def _widened(row: np.ndarray, width: int, fill: float) -> np.ndarray:
    """A row of the edits made so far, filled up to a width."""
    row = np.asarray(row)[:width]
    return np.concatenate([row, np.full(width - len(row), fill, dtype=row.dtype)])


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(rows, axis=1))


def _keys_at(model: LoadedModel, sentences: Sequence[Sentence], layer: int) -> np.ndarray:
    """The facts' own keys in a layer, (n, d_m); no edit in that layer or after it ever moves them."""
    return np.asarray(fact_keys(model, [Prompt(s.tokens, s.key_index, "") for s in sentences])[layer])


def _with_new_objects(simulator: Simulator, edits: Sequence[RequestedEdit]) -> list[Sentence]:
    facts = [replace(edit.fact, target=edit.target) for edit in edits]
    return tokenize_sentences(simulator.model.tokenizer, facts, context=simulator.model.context)
