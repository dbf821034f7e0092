"""Methods side by side: what an edit, what it was to leave alone, and the model are worth after many edits.

`python -m kis_core league --out DIR` writes `league.csv` (one row a run and number of edits) and `league.md` (one row a
method). Every run is made for this study alone, since how long its edits take is part of it; cancelled or killed, it
resumes where it stopped.

Paraphrases and neighbours are asked after all these edits, not right after their own, of a sample of the edits so far.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from kis_core import lifelong, progress
from kis_core.analysis import pipeline
from kis_core.editing import RequestedEdit, applied, method, probes
from kis_core.files import atomic
from kis_core.lifelong import Draw, LifelongRequest, draw_queue, summary
from kis_core.lifelong.sequence_run import SequenceRun
from kis_core.lifelong.summary import HalfLife, over_seeds
from kis_core.lifelong.trace import from_entry
from kis_core.models.holder import LoadedModels
from kis_core.models.layers import editable_layers
from kis_core.request import Request, RequestError
from kis_core.results import caveats, export
from kis_core.scoring.answers import knows
from kis_core.simulator import Simulator
from kis_core.simulator import of as simulator_of
from kis_core.store.store import Store, key_of
from kis_core.studies.program import made_by
from kis_core.studies.tables import table
from kis_core.wording import MISSING, number, ranges

KIND = "league"  # of the keys that measurements are stored under
FORMAT = 1  # raise it when the meaning of a stored measurement changes
SAMPLE = 20  # edits whose paraphrases and neighbours are asked
MEASURES = {
    "efficacy": "took when made",
    "retention": "still in force",
    "paraphrase": "paraphrases",
    "neighbourhood": "neighbours kept",
    "recall": "unrelated kept",
    "perplexity": "perplexity",
    "seconds": "seconds an edit",
}
"""What is measured after so many edits: names of `Standing`'s fields and columns, with their heads."""
FORMS = {"perplexity": ".3g", "seconds": ".2g"}  # of what is no share
COLUMNS = ("model", "layers", "method", "seed", "edits", *MEASURES, "half_life", "reached", "commit")
GROUPS = ["model", "layer", "edits"]  # one table each
PROTOCOL = (
    f"Paraphrases and neighbours are those of at most {SAMPLE} of the edits so far, drawn at random, and asked after "
    "all of them: the share of paraphrases answered with the new object, and of the neighbours that the unedited model "
    "answers and that were not edited themselves, the share still answered. An answer counts when every token of it is "
    "the model’s first choice. Means over seeds (geometric of perplexities) with 95 % intervals where there are "
    "several."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A model after so many edits by one method; None where there is nothing to take it of, or it is no number.

    Attributes:
        efficacy: share of the edits so far that took, right after each was made.
        retention: share of them whose new object still is the model's first choice.
        paraphrase: share of the paraphrases answered with the new object; see `PROTOCOL`.
        neighbourhood: share of the neighbours that are still answered; see `PROTOCOL`.
        recall: share of the unrelated facts that are still answered.
        perplexity: on text held out.
        seconds: to make one edit, measuring left out; over the edits since the number before that were made in one go.
    """

    efficacy: float | None
    retention: float | None
    paraphrase: float | None
    neighbourhood: float | None
    recall: float | None
    perplexity: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LeagueStudy:
    """Runs by several methods.

    Attributes:
        requests: what is analysed, one a model.
        edits: numbers of edits after which all is measured, rising; the last ends a run.
        every: edits between two measurements of recall.
        seeds: runs of each kind.
        methods: by name.
        layers: or None for all but the last.
        device: where to run.
    """

    requests: tuple[Request, ...]
    edits: tuple[int, ...]
    every: int
    seeds: int
    methods: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    device: str = "auto"

    def run(self, folder: Path, store: Store, report: progress.Report = progress.silent) -> list[Path]:
        """Do the study and write its files; what is stored of it is not done again.

        Returns:
            the files written.

        Raises:
            EditError: there is no method of that name.
            RequestError: the numbers of edits make no sense, or there is nothing to study.
        """
        for name in self.methods:
            method(name)
        if not self.edits or list(self.edits) != sorted(set(self.edits)) or self.every < 1:
            raise RequestError(f"--edits takes rising numbers such as 50,100; found {','.join(map(str, self.edits))}")
        if uneven := [edits for edits in self.edits if edits % self.every]:
            raise RequestError(f"all is measured every {self.every} edits; {uneven[0]} is no multiple of it")
        rows = pd.DataFrame(list(self._rows(store, report)), columns=list(COLUMNS))
        if rows.empty:
            raise RequestError("nothing to study: at least one layer to edit, one method and one seed are needed")
        return atomic.write(folder, {"league.csv": export.frame_csv(rows), "league.md": markdown(rows)})

    def _rows(self, store: Store, report: progress.Report) -> Iterator[dict[str, Any]]:
        models = LoadedModels()
        for asked in self.requests:
            result = pipeline.run(asked, store, device=self.device, models=models, report=report)
            caveats.log_of(result)
            simulator = simulator_of(result, store, device=self.device, models=models)
            there = [layer for layer in result.editable_layers if self.layers is None or layer in self.layers]
            last = len(editable_layers(simulator.scale.layers)) - 1
            kinds = [(layer, name, seed) for layer in there for name in self.methods for seed in range(self.seeds)]
            for done, (layer, name, seed) in enumerate(kinds):
                report(f"{asked.model}, layer {layer}, {name}, seed {seed}", done, len(kinds))
                layers = tuple(range(layer, last + 1)) if method(name).picks else (layer,)
                planned = lifelong.ask(simulator, layers, name, self.edits[-1], Draw(seed=seed), every=self.every)
                yield from _measured(simulator, planned, self.edits, report)


def _measured(
    simulator: Simulator, request: LifelongRequest, edits: Sequence[int], report: progress.Report
) -> Iterator[dict[str, Any]]:
    """One row a number of edits."""
    store = simulator.store
    run = key_of("lifelong", {"run": lifelong.key(simulator, request), "for": KIND, "edits": request.edits})
    names = {count: key_of(KIND, {"run": run, "format": FORMAT, "edits": count}) for count in edits}
    with store.alone(run, report):
        entry, missing = store.get(run), [count for count, name in names.items() if store.get(name) is None]
        if entry is None or missing:
            queue = draw_queue(simulator, request.draw, request.edits, request.layers[0], report)
            going = SequenceRun(simulator, request, queue, run, report)
            before_it = entry is not None and from_entry(entry).edits < min(missing)
            if not (before_it and entry and going.resume(entry)):
                going.begin()
            timed = (0, 0.0)
            for _ in going.go(None):
                if (count := int(going.rows["steps"][-1])) in missing:
                    seconds = _per_edit(going, timed)
                    standing = _standing(going, count, seconds)
                    store.put(names[count], asdict(standing) | {"commit": made_by()}, {})
                if count in names:
                    timed = (going.timed, going.seconds)
            entry = store.get(run)
        trace = from_entry(entry) if entry else going.trace
        half = summary.half_life(trace)
        about = {
            "model": simulator.result.request.model,
            "layers": ranges(request.layers),
            "method": request.method,
            "seed": request.draw.seed,
        }
        for count, name in names.items():
            measured = store.get(name)
            found = dict(measured.meta) if measured else {}
            yield about | {"edits": count} | found | {"half_life": half.edits, "reached": half.reached}


def _per_edit(going: SequenceRun, before: tuple[int, float]) -> float:
    """Seconds an edit since a moment, given by the edits and the seconds then; NaN where none was made since."""
    edits, seconds = going.timed - before[0], going.seconds - before[1]
    return seconds / edits if edits else math.nan


def _standing(going: SequenceRun, count: int, seconds: float) -> Standing:
    """The model of a run as it stands after so many edits."""
    trace = going.trace
    made = np.flatnonzero(trace.made)
    rng = np.random.default_rng([going.request.draw.seed, count])
    sample = [going.queue.edits[k] for k in np.sort(rng.permutation(made)[:SAMPLE]).tolist()]
    paraphrase, neighbourhood = _probed(going, sample, {edit.fact.subject for edit in going.queue.edits[:count]})
    values = {
        "efficacy": float(trace.took.mean()),
        "retention": float(summary.retention(trace)[-1]),
        "paraphrase": paraphrase,
        "neighbourhood": neighbourhood,
        "recall": float(summary.recall(trace)[-1]),
        "perplexity": float(trace.perplexity[-1]),
        "seconds": seconds,
    }
    return Standing(**{name: value if math.isfinite(value) else None for name, value in values.items()})


def _probed(going: SequenceRun, sample: Sequence[RequestedEdit], edited: set[str]) -> tuple[float, float]:
    """Shares of paraphrases answered with the new object and of neighbours kept, each edit counted once.

    Args:
        going: the run as it stands.
        sample: some of its edits.
        edited: subjects of the edits so far.

    Returns:
        both shares; NaN where no edit has such prompts.
    """
    known, own, others = going.simulator.known_facts, [], []
    for at, edit in enumerate(sample):
        prompts = probes(edit.fact, known)
        own += [(at, replace(prompt, target=edit.target)) for prompt in prompts.paraphrases]
        others += [(at, prompt) for prompt in prompts.neighbours if prompt.subject not in edited]
    there = knows(going.model, [prompt for _, prompt in others])
    others = [each for each, right in zip(others, there, strict=True) if right]
    with applied(going.model, *going.standing()):
        said, kept = (knows(going.model, [prompt for _, prompt in each]) for each in (own, others))
    return _share(own, said), _share(others, kept)


def _share(prompts: Sequence[tuple[int, Any]], right: Sequence[bool]) -> float:
    """Mean over edits of the share of their prompts that are answered right."""
    frame = pd.DataFrame({"edit": [at for at, _ in prompts], "right": right})
    return float(frame.groupby("edit")["right"].mean().mean()) if prompts else math.nan


def committed() -> pd.DataFrame:
    """The rows of the study that comes with the project; none before it was made."""
    source = resources.files(__package__).joinpath("league.csv")
    if not source.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.read_csv(io.StringIO(source.read_text("utf-8")), dtype={"layers": str, "commit": str})


def standings(rows: pd.DataFrame) -> pd.DataFrame:
    """The league table, the longest half-life first in each model, layer and number of edits.

    Returns:
        columns `model`, `layer` (the first one), `edits`, `method` (its label, with its layers where it has several),
        `half_life` (in words) and those of `MEASURES` (in words: mean over seeds, with its 95 % interval).
    """
    made = []
    for (model, layers, edits, name), group in rows.groupby(["model", "layers", "edits", "method"], sort=False):
        ends = zip(group["half_life"], group["reached"], strict=True)
        lives = over_seeds([HalfLife(float(end), bool(reached)) for end, reached in ends])
        interval = f" ({lives.low:.0f}–{lives.high:.0f})" if lives.runs > 1 and not lives.unreached else ""
        cells = {name: _mean(group[name].astype(float), name) for name in MEASURES}
        life = {"half_life": f"{'> ' if lives.unreached else ''}{lives.middle:.0f}{interval}", "middle": lives.middle}
        first, *more = str(layers).split("–")
        label = f"{method(str(name)).label}, layers {layers}" if more else method(str(name)).label
        made.append({"model": model, "layer": int(first), "edits": edits, "method": label} | life | cells)
    columns = ["model", "layer", "edits", "method", "half_life", *MEASURES]
    frame = pd.DataFrame(made, columns=[*columns, "middle"])
    places = frame.groupby(GROUPS, sort=False).ngroup()
    ordered = frame.assign(place=places).sort_values(["place", "middle"], ascending=[True, False], kind="stable")
    return ordered[columns].reset_index(drop=True)


def _mean(values: pd.Series[Any], name: str) -> str:
    """The mean of what is known, with its interval (Student's t); of perplexities on their logarithms."""
    known = values.dropna().to_numpy(float)
    if not len(known):
        return MISSING
    known = np.log(known) if name == "perplexity" else known
    ends = np.array([known.mean()])
    if len(known) > 1:
        reach = stats.t.ppf((1 + summary.LEVEL) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
        ends = ends[0] + np.array([0, -reach, reach])
    ends = np.exp(ends) if name == "perplexity" else np.clip(ends, 0, None if name in FORMS else 1)
    middle, *interval = (number(end, FORMS.get(name, ".0%")) for end in ends)
    return f"{middle} ({'–'.join(interval)})" if interval else middle


def markdown(rows: pd.DataFrame) -> str:
    """The tables, one a model, layer and number of edits, below how they were measured."""
    parts = [f"{len(rows.drop_duplicates(['model', 'layers', 'method', 'seed']))} runs. {PROTOCOL}"]
    heads = ["method", "edits until half is forgotten", *MEASURES.values()]
    for (model, layer, edits), group in standings(rows).groupby(GROUPS, sort=False):
        body = table(heads, group[["method", "half_life", *MEASURES]].to_numpy().tolist())
        parts.append(f"**{model}, layer {layer}, after {edits} edits**\n\n{body}")
    return "\n\n".join(parts) + "\n"
