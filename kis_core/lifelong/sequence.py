"""One edit after another on one layer or a few, as overlays; measured as it goes (eq. 3-5, 11 and 15; App. H).

W itself is never written to. A run is kept in the store as far as it was measured: cancelled or killed, it goes on from
there and comes to the same numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kis_core import progress
from kis_core.editing import Change, DenseEdit, Edit, EditError, PerformedEdit, RequestedEdit, Site, applied, method
from kis_core.keys import Prompt, fact_keys
from kis_core.lifelong import model_health
from kis_core.lifelong.queue import Queue
from kis_core.lifelong.queue import queue as drawn
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.trace import EDITS, OF_EDITS, STEPS, EditTrace, from_entry, to_entry
from kis_core.scoring.log_odds import Sentence, tokenize_sentences
from kis_core.spillover import Sensitivity, observe, sensitivity
from kis_core.spillover.forecast import all_tokens, subject_token
from kis_core.store.store import Entry, StoreError, key_of

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel
    from kis_core.simulator import Simulator

log = logging.getLogger(__name__)

FORMAT = 4  # raise it when the meaning of a stored run changes
STAGE = "Editing, one after another"
SAVED_SECONDS = 2.0  # between two times that a run is stored
Seen = Callable[[EditTrace], None]


def key(bench: Simulator, request: LifelongRequest) -> str:
    """Name of a run in the store. A run of more edits holds one of fewer, unless their number changes the edits."""
    asked = request.to_json()
    known = bench.known_facts
    apart = known.apart  # else the facts that are not edited are fewer, the more are
    whole = request.edits % request.batch == 0 and request.edits % request.every == 0
    if apart and request.draw.order == "drawn" and request.draw.by != "hand" and whole:
        del asked["edits"]
    told = {"of": bench.result.identity, "format": FORMAT, "request": asked, "drawn_from": known.fingerprint}
    return key_of("lifelong", told)


def stored(bench: Simulator, request: LifelongRequest) -> Entry | None:
    """A run as it lies in the store, or None."""
    sizes = {"k": len(request.layers), "facts": len(bench.facts)} | bench.widths
    return bench.store.get(key(bench, request), **sizes)


def known(bench: Simulator, request: LifelongRequest) -> EditTrace | None:
    """The run as far as it is stored, or None if nothing of it is; needs no model."""
    entry = stored(bench, request)
    return from_entry(entry).until(request.edits) if entry else None


def finished(film: EditTrace | None, request: LifelongRequest) -> bool:
    """Whether a run went as far as was asked."""
    return film is not None and film.edits >= request.edits


def run(
    bench: Simulator,
    request: LifelongRequest,
    *,
    seen: Seen | None = None,
    until: Callable[[EditTrace], bool] | None = None,
    report: progress.Report = progress.silent,
) -> EditTrace:
    """Make the edits and measure; what is stored of the run already is not done again.

    Args:
        bench: model, facts and C.
        request: what to do.
        seen: shown the film after every measurement, and the stored one at first.
        until: looked at after every measurement; the run ends early when it says so.
        report: called after every step of a search.

    Returns:
        the film, up to as many edits as were asked for.

    Raises:
        RequestError: there are not that many edits.
        Cancelled: `report` called it off; what was measured is kept.
    """
    name = key(bench, request)
    with bench.store.alone(name, report):
        entry = stored(bench, request)
        if entry:
            film = from_entry(entry).until(request.edits)
            if finished(film, request) or (until and until(film)):
                if seen:
                    seen(film)
                return film
        report("Loading the model", 0, 1)
        _ = bench.model
        report("Loading the model", 1, 1)
        queue = drawn(bench, request.draw, request.edits, request.layers[0], report)
        course = _Course(bench, request, queue, report)
        if entry is None or not course.take_up(entry):
            course.begin()
        for _ in course.go(seen):
            if until and until(course.film):
                break
        return course.film.until(request.edits)


@dataclass(eq=False)
class _State:
    """What a run has come to, beside its film.

    Attributes:
        total: ΔW of all edits so far, (layers, d, d_m).
        past: (layers, n, d_m), keys of the edits so far.
        wrote: (n, d) float32, output of the first edited layer at each edit's subject right after it.
        then: ΔW at the last measurement, (layers, d, d_m).
        renewed: (m,) change of log-odds foretold so far, with gradients renewed at every measurement.
        moved: (m, d) Σ_i p(k_ei, k_j) δ_i of the unrelated facts.
        moved_edits: (n, d) the same of the facts edited, over the edits after each.
    """

    total: np.ndarray
    past: np.ndarray
    wrote: np.ndarray
    then: np.ndarray
    renewed: np.ndarray
    moved: np.ndarray
    moved_edits: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"state.{name}": value for name, value in vars(self).items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> _State:
        return cls(**{name.removeprefix("state."): a for name, a in arrays.items() if name.startswith("state.")})


class _Course:
    """A run while it goes on."""

    def __init__(self, bench: Simulator, request: LifelongRequest, queue: Queue, report: progress.Report) -> None:
        self.bench, self.request, self.queue, self.report = bench, request, queue, report
        self.method = method(request.method)
        self.model = bench.model
        self.layers = request.layers
        self.facts = [bench.sensitivity(layer, report) for layer in self.layers]
        self.whiteners = {layer: bench.whitener(layer, report) for layer in self.layers}
        self.prefixes = bench.prefixes(request.how)
        self.unrelated = np.array(queue.unrelated, dtype=np.int64)
        self.sentences = [bench.sentences[j] for j in queue.unrelated]
        self.told = _of_new_objects(bench, queue.asked)
        self.keys = _keys_at(self.model, self.told, self.layers[0])
        self.text = model_health.held_out(bench)
        self.own_norms = [float(np.linalg.norm(self._weight(layer))) for layer in self.layers]
        self.saved = time.monotonic()

    def _weight(self, layer: int) -> np.ndarray:
        return np.asarray(self.model.architecture.weight(layer).double().cpu().numpy())

    def begin(self) -> None:
        """Look at the model before the first edit."""
        width, mlp_width = self.model.architecture.widths
        layers, unrelated = len(self.layers), len(self.unrelated)
        self.state = _State(
            np.zeros((layers, width, mlp_width)), np.zeros((layers, 0, mlp_width)),
            np.zeros((0, width), dtype=np.float32), np.zeros((layers, width, mlp_width)),
            np.zeros(unrelated), np.zeros((unrelated, width)), np.zeros((0, width)),
        )  # fmt: skip
        self.gradients = self.facts
        self.rows: dict[str, list[Any]] = {name: [] for name in (*STEPS, *EDITS)}
        self.words: list[tuple[tuple[str, str], ...]] = []
        self._measure()

    def take_up(self, entry: Entry) -> bool:
        """Go on from what is stored, if it is of the same queue."""
        film = from_entry(entry)
        if not self.queue.begins_like(film.queue) or film.unrelated.tolist() != self.unrelated.tolist():
            return False
        self.state = self.measured_state = _State.of(entry.arrays)
        self.rows = {name: list(getattr(film, name)) for name in (*STEPS, *EDITS)}
        self.words = list(film.words)
        self.gradients = self._renewed_gradients()
        return True

    @property
    def film(self) -> EditTrace:
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
            queue=tuple(map(tuple, self.queue.tell()[:made])), unrelated=self.unrelated, words=tuple(self.words),
            text=self.text.told, **stacked,
        )  # fmt: skip

    def go(self, seen: Seen | None) -> Iterator[None]:
        """Edit and measure to the end; yields after every measurement."""
        if seen:
            seen(self.film)
        try:
            while (done := len(self.state.past[0])) < len(self.queue.asked):
                batch = self.queue.asked[done : done + self.request.batch]
                self._edit(batch)
                now = done + len(batch)
                if now == len(self.queue.asked) or now // self.request.every > done // self.request.every:
                    self._measure()
                    if time.monotonic() - self.saved > SAVED_SECONDS:
                        self._save()
                    if seen:
                        seen(self.film)
                    yield
        finally:
            self._save()

    def _save(self) -> None:
        """Store the run as it was when last measured."""
        film, at = to_entry(self.film), self.measured_state
        meta = film.meta | {"about": self._about()}
        try:
            self.bench.store.put(key(self.bench, self.request), meta, film.arrays | at.arrays())
        except StoreError as error:
            log.warning("measured but not kept: %s", error)
        self.saved = time.monotonic()

    def _about(self) -> dict[str, str]:
        """What the run is, for the Library, which opens no run."""
        result, made = self.bench.result, self.film.edits
        name = f"{made} edit{'' if made == 1 else 's'}, {self.request.told}"
        names = {part: str(result.provenance[part]) for part in ("facts", "corpus")}
        return {"name": name, "model": result.request.model} | names

    def _standing(self) -> tuple[Change, ...]:
        return tuple(DenseEdit(layer, total) for layer, total in zip(self.layers, self.state.total, strict=True))

    def _edit(self, batch: Sequence[RequestedEdit]) -> None:
        state, done = self.state, len(self.state.past[0])

        def searching(stage: str, step: int, steps: int) -> None:
            self.report(STAGE, done, len(self.queue.asked))

        site = Site(
            self.model, self.layers, self.whiteners, self.request.how, self.request.weights, self.prefixes,
            self._standing(), dict(zip(self.layers, state.past, strict=True)),
        )  # fmt: skip
        made = self._made(site, batch, searching)
        changes = [list(one.changes) if one else [] for one in made]
        total = state.total.copy()
        for own in changes:
            for change in own:
                total[self.layers.index(change.layer)] += change.matrix
        keys = np.stack([one.keys if one else self._missing_key() for one in made], axis=1)  # (layers, b, d_m)
        first = [next((c for c in own if c.layer == self.layers[0]), None) for own in changes]
        moved, later = state.moved.copy(), state.moved_edits.copy()
        for one_change in first:
            if one_change is not None:
                moved += one_change.moves(self.facts[0].subject_keys[self.unrelated])
                later += one_change.moves(self.keys[:done])
        self.state = _State(
            total, np.concatenate([state.past, keys], axis=1), state.wrote,
            state.then, state.renewed, moved,
            np.concatenate([later, np.zeros((len(batch), total.shape[1]))]),
        )  # fmt: skip
        with applied(self.model, *self._standing()):
            right_after = observe(self.model, self.told[done : done + len(batch)], self.layers[0])
        self.state.wrote = np.concatenate([state.wrote, right_after.outputs])
        for at, (one, own) in enumerate(zip(made, changes, strict=True)):
            self.rows["took"].append(bool(right_after.rank[at] == 1) and one is not None)
            self.rows["made"].append(one is not None)
            self.rows["own_key"].append(one is not None and one.own_key)
            self.rows["size"].append(float(np.sqrt(sum(np.linalg.norm(c.matrix) ** 2 for c in own))))
            self.rows["contributions"].append(self._foretold(own, all_tokens))
            self.rows["shares"].append(self._shares(first[at]))

    def _made(self, site: Site, batch: Sequence[RequestedEdit], report: progress.Report) -> list[PerformedEdit | None]:
        """The edits of a batch; one that cannot be made is passed over (a batch of several, as a whole)."""
        try:
            return list(self.method.make(site, batch, report))
        except EditError:
            return [None] * len(batch)

    def _missing_key(self) -> np.ndarray:
        return np.zeros((len(self.layers), self.model.architecture.widths[1]))

    def _renewed_gradients(self) -> list[Sensitivity]:
        """How the answers depend on each layer as the edits so far left the model."""
        with applied(self.model, *self._standing()):
            return [sensitivity(self.model, self.bench.sentences, layer) for layer in self.layers]

    def _since(self) -> tuple[DenseEdit, ...]:
        """What the edits since the last measurement did to each layer."""
        both = zip(self.layers, self.state.total, self.state.then, strict=True)
        return tuple(DenseEdit(layer, now - then) for layer, now, then in both)

    def _foretold(
        self,
        changes: Sequence[Change],
        forecast: Callable[[Change, Sensitivity], np.ndarray],
        gradients: Sequence[Sensitivity] | None = None,
    ) -> np.ndarray:
        total = np.zeros(len(self.bench.facts))
        for change in changes:
            total += forecast(change, (gradients or self.facts)[self.layers.index(change.layer)])
        return total[self.unrelated]

    def _shares(self, change: Change | None) -> np.ndarray:
        if isinstance(change, Edit):
            return change.coefficients(self.facts[0].subject_keys[self.unrelated])
        return np.full(len(self.unrelated), np.nan if change is not None else 0.0)

    def _measure(self) -> None:
        foretold = self._foretold(self._since(), all_tokens, self.gradients) if self.rows["steps"] else 0.0
        self.state = replace(self.state, renewed=self.state.renewed + foretold, then=self.state.total)
        state, made = self.state, len(self.state.past[0])
        self.report(STAGE, made, len(self.queue.asked))
        standing = self._standing()
        with applied(self.model, *standing):
            others = observe(self.model, self.sentences, self.layers[0])
            own = observe(self.model, self.told[:made], self.layers[0])
            newest = self.queue.asked[max(0, made - 1)].fact
            about = [newest, self.queue.asked[0].fact, *(self.bench.facts[j] for j in self.unrelated[:1])]
            self.words.append(model_health.say(self.model, about))
            perplexity = model_health.read(self.model, self.text)
        moved = others.outputs.astype(np.float64) - self.facts[0].outputs[self.unrelated]
        moved_edits = own.outputs.astype(np.float64) - state.wrote
        measured = {
            "steps": made,
            "log_odds": others.log_odds, "log_prob": others.log_prob, "rank": others.rank,
            "subject_token": self._foretold(standing, subject_token),
            "all_tokens": self._foretold(standing, all_tokens),
            "renewed": state.renewed,
            "shift": _norms(moved), "shift_forecast": _norms(state.moved), "shift_error": _norms(moved - state.moved),
            "edited_log_odds": own.log_odds, "edited_log_prob": own.log_prob, "edited_rank": own.rank,
            "edited_shift": _norms(moved_edits), "edited_shift_forecast": _norms(state.moved_edits),
            "edited_shift_error": _norms(moved_edits - state.moved_edits),
            "drift": np.array([
                float(np.linalg.norm(total)) / size for total, size in zip(state.total, self.own_norms, strict=True)
            ]),
            "condition": np.array([
                model_health.condition_number(self.model.architecture.weight(layer), total)
                for layer, total in zip(self.layers, state.total, strict=True)
            ]),
            "perplexity": perplexity,
        }  # fmt: skip
        for name, value in measured.items():
            self.rows[name].append(value)
        if made:
            self.gradients = self._renewed_gradients()
        self.measured_state = state
        self.report(STAGE, made, len(self.queue.asked))


def _widened(row: np.ndarray, width: int, fill: float) -> np.ndarray:
    """A row of the edits made so far, filled up to a width."""
    row = np.asarray(row)[:width]
    return np.concatenate([row, np.full(width - len(row), fill, dtype=row.dtype)])


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(rows, axis=1))


def _keys_at(model: LoadedModel, sentences: Sequence[Sentence], layer: int) -> np.ndarray:
    """The facts' own keys in a layer, (n, d_m); no edit in that layer or after it ever moves them."""
    return np.asarray(fact_keys(model, [Prompt(s.tokens, s.key_index, "") for s in sentences])[layer])


def _of_new_objects(bench: Simulator, asked: Sequence[RequestedEdit]) -> list[Sentence]:
    facts = [replace(one.fact, target=one.target) for one in asked]
    return tokenize_sentences(bench.model.tokenizer, facts, context=bench.model.context)
