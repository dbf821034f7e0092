"""What a stored value must be, kind by kind: fields of its metadata, shapes and ranges of its arrays.

Everything that is read from a store or a bundle is held against this before anybody uses it. Kinds that are not named
here are opened by nobody, and taken as they are.

Axes: L layers of a result, m facts, d the residual stream, d_m a key, n edits or facts to edit, s measured steps,
k layers that a run edits, t entries of a triangle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import numpy as np

from kis_core.store.shapes import (
    Array,
    Check,
    Misfit,
    any_number,
    anything,
    by_name,
    check_arrays,
    digits,
    each,
    flag,
    maybe,
    number,
    positive_or_none,
    row,
    table,
    text,
    whole,
    words,
)

__all__ = ["KINDS", "Misfit", "check", "check_meta", "of_another_version"]

UNIT = 1e-6  # how far P[i, i] and a key's cosine with itself may be from 1, and a cosine beyond: both come in float64
SLOT = "{}"
EDGES = 8214  # of `many.tally`; a test holds them together, as this module knows none of what it checks

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Kind:
    """What values of a kind must be.

    Attributes:
        meta: check of the metadata.
        arrays: by name; None where they may be any.
        sizes: lengths of axes that the metadata tells.
        together: names of the arrays that `more` looks at.
        more: of what they hold, once each is of the right shape; takes metadata, arrays and all sizes.
        format: that this version reads, where the metadata says one.
    """

    meta: Check
    arrays: Mapping[str, Array] | None = field(default_factory=dict)
    sizes: Callable[[Mapping[str, Any]], dict[str, int]] = lambda meta: {}
    together: tuple[str, ...] = ()
    more: Callable[[Mapping[str, Any], Arrays, Mapping[str, int]], None] = lambda meta, arrays, sizes: None
    format: int | None = None


def check_meta(kind: str, meta: Mapping[str, Any]) -> None:
    """Hold metadata against what it must be.

    Raises:
        Misfit: it is something else; the message says what.
    """
    if known := KINDS.get(kind):
        if of_another_version(kind, meta):
            raise Misfit(f"it is of format {str(meta.get('format'))[:20]!r}; this version reads {known.format}")
        known.meta(meta, "")


def check(
    kind: str,
    meta: Mapping[str, Any],
    arrays: Iterable[tuple[str, np.ndarray]],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Hold a value against what it must be.

    Args:
        kind: see `store.key_of`.
        meta: its metadata.
        arrays: name and array, which need not all lie in memory.
        sizes: lengths of axes, as far as they are known beforehand.

    Raises:
        Misfit: it is something else; the message says what.
    """
    check_meta(kind, meta)
    known = KINDS.get(kind)
    if known is not None and known.arrays is not None:
        told = known.sizes(meta)
        for axis, length in (sizes or {}).items():
            if told.setdefault(axis, length) != length:
                raise Misfit(f"it has {axis} = {told[axis]}; {length} was expected")
        known.more(meta, check_arrays(known.arrays, arrays, told, known.together), told)


def of_another_version(kind: str, meta: Mapping[str, Any]) -> bool:
    """Whether a value says that it is of a format that this version does not read."""
    known = KINDS.get(kind)
    return known is not None and known.format is not None and meta.get("format") != known.format


# Metadata that several kinds share

MOMENTS = table(
    dict.fromkeys(("mean", "std", "skewness", "kurtosis", "max"), any_number) | {"count": whole(), "masked": whole()}
)
INTERVAL = table({"low": any_number, "high": any_number})
REPORT = table(
    {
        "layer": whole(), "rank": whole(), "condition_number": positive_or_none, "ridge": positive_or_none,
        "moments": MOMENTS, "interval": INTERVAL, "clean_moments": MOMENTS, "clean_interval": INTERVAL,
    }
)  # fmt: skip
LOOK = row(whole(), whole(), maybe(number()))


def _prompt(found: Any, where: str) -> None:
    words(found, where)
    if found.count(SLOT) != 1:
        raise Misfit(f"{where} holds {found.count(SLOT)} `{{}}` where exactly one marks the subject")


FACT = table(
    {"subject": words, "prompt": _prompt, "target": words, "relation": text},
    {"new_target": words, "paraphrases": each(words, least=1), "neighbours": each(words, least=1)},
)
ISSUE = table({"row": whole(), "reason": text})


def _request(found: Any, where: str) -> None:
    """A request that makes sense; fields it lacks are as they are by default."""
    from kis_core.request import Request, RequestError

    REQUEST(found, where)
    try:
        Request(**found)
    except RequestError as error:
        raise Misfit(f"{where}: {error}") from error


REQUEST = table(
    {},
    {
        "model": text, "facts": text, "corpus": text, "tokens": maybe(whole(1)),
        "layers": maybe(each(whole(), least=1)), "revision": maybe(text), "dtype": text, "seed": whole(),
        "documents": maybe(whole(1)), "settled": maybe(number(0, 1)),
    },
)  # fmt: skip
PROVENANCE = table(
    {
        "request": _request, "family": text, "parameters": whole(), "width": whole(1), "mlp_width": whole(1),
        "layers_in_model": whole(1), "weights_sha256": text, "facts": text, "facts_count": whole(1),
        "facts_sha256": text, "corpus": text, "corpus_sha256": text, "tokens_requested": maybe(whole(1)),
        "tokens_counted": whole(1), "dtype": text, "revision": maybe(text), "device": text, "versions": by_name(text),
    },
    {
        "model": text, "architecture": text, "documents_requested": maybe(whole(1)), "moment_dtype": text,
        "documents_read": maybe(whole()), "documents_sha256_sum": maybe(text), "padding": maybe(number(0, 1)),
        "settled": flag, "looks": each(LOOK), "statistics": maybe(text), "facts_kept": each(whole()),
        "facts_whole_sha256": text,
    },
    more=True,
)  # fmt: skip


# Results

RESULT_META = table(
    {
        "format": whole(), "layers": each(whole(), least=1), "reports": each(REPORT), "facts": each(FACT, least=1),
        "issues": each(ISSUE), "key_token_index": each(whole()), "key_tokens": each(text),
        "key_token_ids": each(whole()), "answers": each(each(row(text, number(0, 1 + UNIT)))), "known": each(flag),
        "provenance": PROVENANCE,
    },
    more=True,
)  # fmt: skip
OF_FACTS = ("key_token_index", "key_tokens", "key_token_ids", "answers", "known")
COSINES = ("whitening_cosine", "activation_cosine")


def _result_meta(found: Any, where: str) -> None:
    from kis_core.facts import Fact, FactSet

    RESULT_META(found, where)
    layers, facts, source = found["layers"], found["facts"], found["provenance"]
    if layers != sorted(set(layers)):
        raise Misfit(f"its layers are {str(layers)[:60]}; numbers in order were expected")
    if layers[-1] >= source["layers_in_model"]:
        raise Misfit(f"it has a layer {layers[-1]} of a model with {source['layers_in_model']}")
    if [report["layer"] for report in found["reports"]] != layers:
        raise Misfit("its reports are not one a layer, in order")
    for name in OF_FACTS:
        if len(found[name]) != len(facts):
            raise Misfit(f"{name} is of {len(found[name])} facts; there are {len(facts)}")
    if source["facts_count"] != len(facts):
        raise Misfit(f"provenance.facts_count is {source['facts_count']}; there are {len(facts)}")
    if FactSet("", tuple(map(Fact.from_json, facts))).fingerprint != source["facts_sha256"]:
        raise Misfit("its facts are not those of provenance.facts_sha256")
    kept = source.get("facts_kept")
    if kept is not None and (len(kept) != len(facts) or len(set(kept)) < len(kept)):
        raise Misfit("provenance.facts_kept does not name each of its facts once")


def _result(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    for at, layer in enumerate(meta["layers"]):
        p = arrays["p"][at]
        dead = np.isnan(p.diagonal())  # zero keys: their rows and columns have no value
        _with_gaps(f"p of layer {layer}", p, dead)
        for name in COSINES:
            cosine = arrays[name][at]
            gaps = np.isnan(cosine.diagonal())
            _with_gaps(f"{name} of layer {layer}", cosine, gaps)
            with np.errstate(invalid="ignore"):
                beyond = np.abs(cosine) > 1 + UNIT
            if beyond.any():
                raise Misfit(f"{name} of layer {layer} holds {cosine[beyond][0]:g}; a cosine was expected")


def _with_gaps(what: str, matrix: np.ndarray, gaps: np.ndarray) -> None:
    """A matrix with 1 on its diagonal and numbers beside it, but in the rows and columns of gaps."""
    there = ~gaps
    diagonal = matrix.diagonal()[there]
    if (np.abs(diagonal - 1) > UNIT).any():
        raise Misfit(f"{what} has {diagonal[np.abs(diagonal - 1) > UNIT][0]:g} on its diagonal; 1 was expected")
    if not np.isfinite(matrix[np.ix_(there, there)]).all():
        raise Misfit(f"{what} holds a NaN or an infinity")
    if np.isinf(matrix).any():
        raise Misfit(f"{what} holds an infinity")


# C

MOMENT_META = table(
    {"tokens": whole(1), "told": table({"documents": maybe(whole())}, {
        "sha256_sum": text, "characters": whole(), "padding": maybe(number(0, 1)), "settled": flag,
        "looks": each(LOOK), "looks_of": text, "statistics": text,
    }, more=True)},
    {"about": table({}, {"layer": whole()}, more=True)},
    more=True,
)  # fmt: skip


def _moment(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    """The lower triangle of a second moment, row by row: entry (i, i) is at i (i + 3) / 2."""
    width = (isqrt(8 * sizes["t"] + 1) - 1) // 2
    expected = sizes.get("d_m", width)
    if width != expected or width * (width + 1) // 2 != sizes["t"] or not width:
        raise Misfit(
            f"triangle has {sizes['t']:,} entries; {expected * (expected + 1) // 2:,} were expected, of a C of "
            f"{expected} rows"
        )
    places = np.arange(width, dtype=np.int64)
    squares = arrays["triangle"][places * (places + 3) // 2]
    if squares.min() < 0 or not squares.any():
        raise Misfit("triangle is no second moment: its diagonal holds mean squares, which are 0 or more, not all 0")


# Edits

VALUE_META = table({"losses": each(number(), least=1), "probability": number(0, 1 + UNIT), "everywhere": flag})


def _sensitivity(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    starts, rows = arrays["starts"], arrays["key_rows"]
    if starts[0] != 0 or starts[-1] != sizes["tokens"] or (np.diff(starts) < 1).any():
        raise Misfit("starts does not part the tokens among the facts")
    if (rows < starts[:-1]).any() or (rows >= starts[1:]).any():
        raise Misfit("key_rows names a token of another fact")


def _flags(*names: str) -> Callable[[Mapping[str, Any], Arrays, Mapping[str, int]], None]:
    def check(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
        for name in names:
            if arrays[name].size and arrays[name].max() > 1:
                raise Misfit(f"{name} holds {arrays[name].max()}; 0 and 1 were expected")

    return check


# Runs of edits

RUN_META = table(
    {"queue": each(row(*[text] * 5)), "words": each(each(row(text, text)), least=1), "text": text},
    {"about": by_name(text)},
    more=True,
)
MEASURED = {"log_odds": "s m", "log_prob": "s m", "subject_token": "s m", "all_tokens": "s m", "renewed": "s m",
            "shift": "s m", "shift_forecast": "s m", "shift_error": "s m", "edited_log_odds": "s n",
            "edited_log_prob": "s n", "edited_shift": "s n", "edited_shift_forecast": "s n",
            "edited_shift_error": "s n", "drift": "s k", "condition": "s k", "perplexity": "s", "size": "n",
            "contributions": "n m", "shares": "n m"}  # fmt: skip
REACHED = {"state.total": "k d d_m", "state.past": "k n d_m", "state.wrote": "n d", "state.then": "k d d_m",
           "state.renewed": "m", "state.moved": "m d", "state.moved_edits": "n d"}  # fmt: skip
RUN_ARRAYS = (
    {"steps": Array("s", "iu", least=0), "rank": Array("s m", "iu", least=0), "unrelated": Array("m", "iu", least=0),
     "edited_rank": Array("s n", "iu", least=0), "took": Array("n", "bu"), "made": Array("n", "bu"),
     "own_key": Array("n", "bu")}
    | {name: Array(axes, finite=False) for name, axes in MEASURED.items()}  # a model that was edited to death says NaN
    | {name: Array(axes, finite=False) for name, axes in REACHED.items()}
)  # fmt: skip


def _run(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    steps, unrelated = arrays["steps"], arrays["unrelated"]
    if not len(steps) or steps[0] != 0 or (np.diff(steps) < 1).any() or steps[-1] != sizes["n"]:
        raise Misfit(f"steps is {steps[:8].tolist()}; from 0 to {sizes['n']} edits, in order, was expected")
    facts = sizes.get("facts")
    if len(set(unrelated.tolist())) < len(unrelated) or (facts is not None and (unrelated >= facts).any()):
        raise Misfit("unrelated does not name facts of its set, each once")
    _flags("took", "made", "own_key")(meta, arrays, sizes)


# Many facts

SIDES, WAYS = ("every", "clean"), ("leaks", "suffers")
SWEEP_META = table({"format": whole(), "asked": by_name(anything), "keys": text, "report": REPORT}, more=True)
SWEEP_ARRAYS = {
    "squares": Array("m", least=0), "edges": Array("edges", finite=False), "thresholds": Array("thresholds"),
    "kept": Array("m", "iu", least=0),
} | {
    f"{side}.{name}": array for side in SIDES for name, array in (
        ("counts", Array("cells", "iu", least=0)), ("beyond", Array("thresholds", "iu", least=0)),
        ("pairs", Array(f"{side} 2", "iu", least=0)), ("values", Array(side)),
        *((f"{way}.{name}", Array("m", kinds, finite=False)) for way in WAYS
          for name, kinds in (("rms", "f"), ("largest", "f"), ("partner", "i"))),
    )
}  # fmt: skip


def _sweep(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    count, kept, facts = sizes["m"], arrays["kept"], sizes.get("facts")
    if (np.diff(kept.astype(np.int64)) < 1).any() or (facts is not None and (kept >= facts).any()) or not count:
        raise Misfit("kept does not name facts of its set, in order")
    for side in SIDES:
        if (arrays[f"{side}.pairs"] >= count).any():
            raise Misfit(f"{side}.pairs names a fact that is not there")
        for way in WAYS:
            partner = arrays[f"{side}.{way}.partner"]
            if (partner < -1).any() or (partner >= count).any():
                raise Misfit(f"{side}.{way}.partner names a fact that is not there")


# Work under way

HEAD_META = table(
    {
        "place": table({"tokens": whole()}, more=True), "moment": text, "names": each(text),
        "about": table({}, {"layers": each(whole()), "rank": whole(), "world": whole(1), "of": text,
                            "moments": each(text)}, more=True),
    },
    more=True,
)  # fmt: skip

KINDS: dict[str, Kind] = {
    "superposition": Kind(
        _result_meta,
        {name: Array("L m m", finite=False) for name in ("p", *COSINES)},
        lambda meta: {"L": len(meta["layers"]), "m": len(meta["facts"])},
        ("p", *COSINES), _result, format=3,
    ),
    "second-moment": Kind(MOMENT_META, {"triangle": Array("t")}, together=("triangle",), more=_moment),
    "value": Kind(
        VALUE_META,
        {"delta": Array("d"), "output": Array("d"), "mean_output": Array("d"), "key": Array("d_m"),
         "mean_key": Array("d_m")},
    ),
    "sensitivity": Kind(
        table({"layer": whole()}, more=True),
        {"starts": Array("m+1", "iu", least=0), "key_rows": Array("m", "iu", least=0), "keys": Array("tokens d_m"),
         "gradients": Array("tokens d"), "outputs": Array("m d"), "hidden": Array("m d"),
         "log_odds": Array("m", finite=False), "log_prob": Array("m", finite=False)},
        together=("starts", "key_rows"), more=_sensitivity,
    ),
    "edit-pool": Kind(
        table({"facts": whole(1)}, more=True),
        {"known": Array("n", "bu"), "leverage": Array("L n", least=0), "leak": Array("L n", finite=False, least=0)},
        lambda meta: {"n": meta["facts"]}, ("known",), _flags("known"),
    ),
    "lifelong": Kind(
        RUN_META, RUN_ARRAYS, lambda meta: {"n": len(meta["queue"]), "s": len(meta["words"])},
        ("steps", "unrelated", "took", "made", "own_key"), _run,
    ),
    "sweep": Kind(
        SWEEP_META, SWEEP_ARRAYS, lambda meta: {"edges": EDGES, "cells": EDGES - 1, "2": 2, "thresholds": 4},
        ("kept", *(f"{side}.pairs" for side in SIDES), *(f"{s}.{w}.partner" for s in SIDES for w in WAYS)), _sweep,
        format=2,
    ),
    "whitened-keys": Kind(
        table({"condition": REPORT, "provenance": PROVENANCE}, more=True),
        {"whitened": Array("m d_m"), "token_ids": Array("m", "iu", least=0)},
    ),
    "known-facts": Kind(anything, {"known": Array("m", "bu")}),
    "fingerprint": Kind(table({"sha256": digits}, more=True)),
    "asked": Kind(table({"request": _request, "device": text}, more=True)),
    "unfinished": Kind(HEAD_META),
    "unfinished-part": Kind(table({"of": text, "moment": text, "name": text}, more=True), None),
}  # fmt: skip
