"""Good values of every kind, and what becomes of them when something in them is changed and their checksums are right.

`opened` opens a store everywhere: what pages and commands do with what they read.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.second_moments import packed, second_moment
from kis_core.covariance.whitener import Whitener
from kis_core.errors import KisError
from kis_core.library import bundles, inventory
from kis_core.results import archive, export
from kis_core.results.convergence import settling
from kis_core.results.result import Result
from kis_core.store.store import Entry, Store, key_of
from tests.results.results_tools import MLP_WIDTH, WIDTH, made

LAYERS, FACTS, EDITS, STEPS = 2, 4, 3, 2
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**70, 0.5, -3.5, 1e308, "", "x", "nan", "-inf", [], [[]], ["x"], [None], {}),
    *({"x": 1}, [1, 2, 3], "{}", "\ud800", "0" * 64, "builtin"),
)


def good() -> dict[str, Entry]:
    """A result, C of its layers, a value, gradients, a pool and a run that go with it, by key."""
    random_numbers = np.random.default_rng(0)
    p = random_numbers.normal(0, 0.1, (LAYERS, FACTS, FACTS))
    p[:, range(FACTS), range(FACTS)] = 1
    result = made(p, relations=["a"] * FACTS)
    values = {key_of(archive.KIND, {}): archive.to_entry(result)}
    keys = random_numbers.normal(size=(3 * MLP_WIDTH, MLP_WIDTH))
    for layer in result.layers:
        told = {"tokens": 100, "told": {"documents": 3, "looks": []}, "about": {"model": "made", "layer": layer}}
        values[pipeline.second_moment_key(result, layer)] = Entry(told, {"triangle": packed(keys.T @ keys / len(keys))})
    return values | {key_of(kind, {}): entry for kind, entry in of_edits(random_numbers).items()}


def of_edits(random_numbers: np.random.Generator) -> dict[str, Entry]:
    """What is kept of edits, by kind."""
    shapes = {"s": STEPS, "n": EDITS, "m": FACTS - 1, "k": 1, "d": WIDTH, "d_m": MLP_WIDTH}
    from kis_core.store.schema_of_edits import RUN_ARRAYS

    run = {}
    for name, array in RUN_ARRAYS.items():
        shape = tuple(shapes[axis] for axis in array.axes.split())
        run[name] = random_numbers.normal(size=shape) if "f" in array.kinds else np.ones(shape, np.int64)
    run |= {"steps": np.array([0, EDITS]), "unrelated": np.arange(FACTS - 1), "took": np.ones(EDITS, np.uint8)}
    run |= dict.fromkeys(("made", "own_key"), np.ones(EDITS, np.uint8))
    tokens = 2 * FACTS
    return {
        "lifelong": Entry(
            {"queue": [["s", "{} is", "o", "r", "n"]] * EDITS, "words": [[["a", "b"]]] * STEPS, "text": "t",
             "about": {"name": "a run", "model": "made"}}, run,
        ),
        "value": Entry(
            {"losses": [2.0, 1.0], "probability": 0.5, "everywhere": False},
            {name: random_numbers.normal(size=WIDTH if "key" not in name else MLP_WIDTH)
             for name in ("delta", "key", "output", "mean_key", "mean_output")},
        ),
        "performed-edit": Entry(
            {"layer": 0, "own_key": False, "answers": ["a"] * FACTS, "scores": ["b", "c"], "flips": [[1, 0.5, "d"]],
             "landing": {"fact": 1, "share": 0.5, "at_subject": True},
             "success": dict.fromkeys(("efficacy", "likelier"), True)
             | dict.fromkeys(("probability_new", "probability_old", "paraphrase"), 0.5)
             | dict.fromkeys(("neighbourhood", "neighbourhood_before"))
             | dict.fromkeys(("generated", "generated_before"), "e")
             | dict.fromkeys(("scores", "scores_before"), {"ES": 1.0, "EM": -0.5} | dict.fromkeys(OTHER_SCORES))},
            dict.fromkeys(("p", "shares", "shift", "subject_token", "all_tokens", "propagated", "measured.shift",
                           "measured.log_odds", "measured.log_prob"), random_numbers.normal(size=FACTS))
            | {"reach": random_numbers.normal(size=MLP_WIDTH), "delta": random_numbers.normal(size=WIDTH),
               "flipped": np.ones(FACTS, np.uint8), "scores": random_numbers.normal(size=(2, FACTS))},
        ),
        "sensitivity": Entry({"layer": 0}, {
            "starts": np.arange(0, tokens + 1, 2), "key_rows": np.arange(0, tokens, 2),
            "keys": random_numbers.normal(size=(tokens, MLP_WIDTH)),
            "gradients": random_numbers.normal(size=(tokens, WIDTH)),
            "outputs": random_numbers.normal(size=(FACTS, WIDTH)), "hidden": random_numbers.normal(size=(FACTS, WIDTH)),
            "log_odds": random_numbers.normal(size=FACTS), "log_prob": -np.ones(FACTS),
        }),
        "edit-pool": Entry({"facts": 5}, {
            "known": np.ones(5, np.uint8), "leverage": np.ones((LAYERS, 5)), "leak": np.ones((LAYERS, 5)),
        }),
    }  # fmt: skip


OTHER_SCORES = ("PS", "PM", "NS", "NM", "rewrite_acc", "rephrase_acc", "locality_acc")


def mutated(value: Entry, choose: random.Random) -> Entry:
    """The value with one thing in it changed: a field, an item, or an array."""
    meta, arrays = copy.deepcopy(value.meta), dict(value.arrays)
    if arrays and choose.random() < 0.3:
        name = choose.choice(sorted(arrays))
        changed = _changed(arrays[name], choose)
        if changed is None:
            del arrays[name]
        else:
            arrays[name] = changed
        return Entry(meta, arrays)
    places = list(_places(meta))
    holder, at = choose.choice(places)
    way = choose.random()
    if way < 0.25:
        del holder[at]
    elif way < 0.35 and isinstance(holder, list):
        holder.insert(at, copy.deepcopy(holder[at]))
    elif way < 0.45:
        holder[at] = [holder[at]]
    elif way < 0.55 and isinstance(holder, dict):
        holder[f"{at}x"] = holder.pop(at)
    else:
        holder[at] = choose.choice(WRONG)
    return Entry(meta, arrays)


def _places(holder: Any) -> Any:
    for at, one in holder.items() if isinstance(holder, dict) else enumerate(holder):
        yield holder, at
        if isinstance(one, dict | list):
            yield from _places(one)


def _changed(array: np.ndarray, choose: random.Random) -> np.ndarray | None:
    ways: list[Callable[[], np.ndarray | None]] = [
        lambda: None,
        lambda: np.zeros_like(array),
        lambda: np.zeros((1,) * array.ndim, array.dtype),
        lambda: array[..., :-1],
        lambda: array[:0],
        lambda: array.reshape(-1)[: max(1, array.size // 2)],
        lambda: array[None],
        lambda: array.astype(np.float32) if array.dtype.kind != "f" else array.astype(np.int32),
        lambda: -array.astype(np.int64) - 5 if array.dtype.kind != "f" else _with(array, np.nan, choose),
        lambda: _with(array, np.inf, choose) if array.dtype.kind == "f" else _with(array, 100, choose),
        lambda: np.concatenate([array, array]),
        lambda: np.swapaxes(array, 0, -1),
    ]
    return choose.choice(ways)()


def _with(array: np.ndarray, number: float, choose: random.Random) -> np.ndarray:
    copied = array.copy()
    copied.reshape(-1)[choose.randrange(copied.size)] = number
    return copied


def packed_up(values: dict[str, Entry]) -> bytes:
    """A bundle of values, whatever they hold, whose checksums are right."""
    stream, rows = io.BytesIO(), []
    with zipfile.ZipFile(stream, "w") as archived:
        for key, value in sorted(values.items()):
            content = safetensors.numpy.save({name: np.ascontiguousarray(one) for name, one in value.arrays.items()})
            archived.writestr(zipfile.ZipInfo(f"{key}.safetensors"), content)
            rows.append({"key": key, "meta": value.meta, "sha256": hashlib.sha256(content).hexdigest(),
                         "file": f"{key}.safetensors", "size": len(content)})  # fmt: skip
        manifest = json.dumps({"format": bundles.FORMAT, "entries": rows}).encode("utf-8", "surrogatepass")
        archived.writestr(zipfile.ZipInfo(bundles.MANIFEST), manifest)
    return stream.getvalue()


def opened(store: Store, folder: Path, keys: dict[str, Entry], changed: str = "") -> int:
    """Open all that is in a store everywhere; errors that say what they are about are fine. How many results opened.

    If the one value is named that is `changed`, good ones are not written to files once more.
    """
    results = 0
    for one in archive.computed(store):
        actual = archive.read(one.key, store)
        if actual is not None:
            results += 1
            if not changed or changed == one.key:
                _written(actual, store, folder)
            _whitened(actual, store)
    list(archive.kurtosis_frame(archive.computed(store)).itertuples())
    for row in inventory.shelf(store):
        inventory.described(store, row.keys[0])
        inventory.moments_behind(store, row.keys)
    unfinished.unfinished(store)
    for key in keys:
        _of_edits(key.rpartition("-")[0], store.get(key))
    return results


def _written(actual: Result, store: Store, folder: Path) -> None:
    from pages.parts.frame.provenance import origin

    export.write(actual, folder)
    part = actual.subset([0], "part") if len(actual.facts) > 1 else actual
    archive.comparable(part, archive.computed(store))
    settling(actual.provenance.get("looks") or [])
    for layer in actual.layers:
        actual.clean(layer)
        actual.ranking(layer)
        origin(actual, layer)


def _whitened(actual: Result, store: Store) -> None:
    for layer in actual.layers:
        try:
            matrix = second_moment(actual, layer, store, lambda: None)  # type: ignore[arg-type, return-value]
        except KisError:
            continue  # it was taken over another text, or of another model: there is none to load here
        Whitener.fit(matrix).whiten(np.ones((1, actual.mlp_width)))


def _of_edits(kind: str, entry: Entry | None) -> None:
    from kis_core.editing import Hyperparameters
    from kis_core.lifelong import summary
    from kis_core.lifelong.trace import from_entry
    from kis_core.simulator import EditRequest
    from kis_core.simulator.stored import edit_from_entry, value_from_entry
    from kis_core.spillover import Sensitivity

    if entry is None:
        return
    if kind == "lifelong":
        trace = from_entry(entry)
        trace.until(2)
        with np.errstate(all="ignore"):
            summary.half_life(trace)
            summary.exactness(trace)
    elif kind == "value":
        value_from_entry(entry)
    elif kind == "performed-edit":
        forecast, outcome = edit_from_entry(entry, EditRequest(0, "n", 0, "rome", Hyperparameters()))
        assert forecast.flips
        named = [*forecast.flips.by(1.5), *([forecast.landing.fact] if forecast.landing else [])]
        assert len([outcome.measured.answers[fact] for fact in named]) == len(named)
    elif kind == "sensitivity":
        _ = Sensitivity(entry.meta["layer"], **entry.arrays).subject_keys
