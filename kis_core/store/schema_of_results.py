"""Schema of what an analysis stores: results, the second moment C, and what is computed of large sets of facts.

Axes: L layers of a result, m facts, d_m a key, t entries of a triangle.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np

from kis_core.store.shapes import (
    Array,
    Arrays,
    Kind,
    Misfit,
    any_number,
    anything,
    arrays,
    dict_of,
    fields,
    flag,
    list_of,
    number,
    optional,
    positive_or_none,
    some_text,
    table,
    text,
    tuple_of,
    whole,
)

UNIT = 1e-6  # how far P[i, i] and a key's cosine with itself may be from 1, and a cosine beyond: both come in float64
SLOT = "{}"
EDGES = 8214  # of `large_sets.tally`; a test holds them together, as this module knows none of what it checks
LEVELS = 6  # of `superposition.leverage`, likewise

# Metadata that several kinds share

MOMENTS = table(fields(any_number, "mean std skewness kurtosis max") | fields(whole(), "count masked"))
INTERVAL = table(fields(any_number, "low high"))
REPORT = table(
    fields(whole(), "layer rank")
    | fields(positive_or_none, "condition_number ridge")
    | fields(MOMENTS, "moments clean_moments")
    | fields(INTERVAL, "interval clean_interval")
)
LOOK = tuple_of(whole(), whole(), optional(number()))


def _prompt(value: Any, where: str) -> None:
    some_text(value, where)
    if value.count(SLOT) != 1:
        raise Misfit(f"{where} holds {value.count(SLOT)} `{{}}` where exactly one marks the subject")


FACT = table(
    {"subject": some_text, "prompt": _prompt, "target": some_text, "relation": text},
    {"new_target": some_text} | fields(list_of(some_text, least=1), "paraphrases neighbours"),
)
ISSUE = table({"row": whole(), "reason": text})
REQUEST = table(
    {},
    fields(text, "model facts corpus dtype")
    | fields(optional(whole(1)), "tokens documents")
    | {
        "layers": optional(list_of(whole(), least=1)),
        "revision": optional(text),
        "seed": whole(),
        "settled": optional(number(0, 1)),
    },
)


def checked_request(value: Any, where: str) -> None:
    """A request that makes sense; fields it lacks are as they are by default."""
    from kis_core.request import Request, RequestError

    REQUEST(value, where)
    try:
        Request(**value)
    except RequestError as error:
        raise Misfit(f"{where}: {error}") from error


PROVENANCE = table(
    {"request": checked_request, "versions": dict_of(text)}
    | fields(text, "family weights_sha256 facts facts_sha256 corpus corpus_sha256 dtype device")
    | fields(whole(1), "width mlp_width layers_in_model facts_count tokens_counted")
    | {"parameters": whole(), "tokens_requested": optional(whole(1)), "revision": optional(text)},
    fields(text, "model architecture moment_dtype facts_whole_sha256")
    | fields(optional(text), "documents_sha256_sum statistics")
    | {"documents_requested": optional(whole(1)), "documents_read": optional(whole())}
    | {"padding": optional(number(0, 1)), "settled": flag}
    | {"looks": list_of(LOOK), "facts_kept": list_of(whole())},
    more=True,
)

# Results

OF_FACTS = ("key_token_index", "key_tokens", "key_token_ids", "answers", "known")
COSINES = ("whitening_cosine", "activation_cosine")
RESULT_META = table(
    {"format": whole(), "layers": list_of(whole(), least=1), "facts": list_of(FACT, least=1)}
    | {"reports": list_of(REPORT), "issues": list_of(ISSUE), "provenance": PROVENANCE}
    | fields(list_of(whole()), "key_token_index key_token_ids")
    | {"key_tokens": list_of(text), "known": list_of(flag)}
    | {"answers": list_of(list_of(tuple_of(text, number(0, 1 + UNIT))))},
    more=True,
)


def _result_meta(value: Any, where: str) -> None:
    from kis_core.facts import Fact, FactSet

    RESULT_META(value, where)
    layers, facts, source = value["layers"], value["facts"], value["provenance"]
    if layers != sorted(set(layers)):
        raise Misfit(f"its layers are {str(layers)[:60]}; numbers in order were expected")
    if layers[-1] >= source["layers_in_model"]:
        raise Misfit(f"it has a layer {layers[-1]} of a model with {source['layers_in_model']}")
    if [report["layer"] for report in value["reports"]] != layers:
        raise Misfit("its reports are not one a layer, in order")
    for name in OF_FACTS:
        if len(value[name]) != len(facts):
            raise Misfit(f"{name} is of {len(value[name])} facts; there are {len(facts)}")
    if source["facts_count"] != len(facts):
        raise Misfit(f"provenance.facts_count is {source['facts_count']}; there are {len(facts)}")
    if FactSet("", tuple(map(Fact.from_json, facts))).fingerprint != source["facts_sha256"]:
        raise Misfit("its facts are not those of provenance.facts_sha256")
    kept = source.get("facts_kept")
    if kept is not None and (len(kept) != len(facts) or len(set(kept)) < len(kept)):
        raise Misfit("provenance.facts_kept does not name each of its facts once")


def _result(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    for at, layer in enumerate(meta["layers"]):
        _with_gaps(f"p of layer {layer}", arrays["p"][at])
        for name in COSINES:
            cosine = arrays[name][at]
            _with_gaps(f"{name} of layer {layer}", cosine)
            with np.errstate(invalid="ignore"):
                beyond = np.abs(cosine) > 1 + UNIT
            if beyond.any():
                raise Misfit(f"{name} of layer {layer} holds {cosine[beyond][0]:g}; a cosine was expected")


def _with_gaps(name: str, matrix: np.ndarray) -> None:
    """A matrix with 1 on its diagonal and numbers beside it; rows and columns of zero keys are NaN."""
    there = ~np.isnan(matrix.diagonal())
    diagonal = matrix.diagonal()[there]
    if (np.abs(diagonal - 1) > UNIT).any():
        raise Misfit(f"{name} has {diagonal[np.abs(diagonal - 1) > UNIT][0]:g} on its diagonal; 1 was expected")
    if not np.isfinite(matrix[np.ix_(there, there)]).all():
        raise Misfit(f"{name} holds a NaN or an infinity")
    if np.isinf(matrix).any():
        raise Misfit(f"{name} holds an infinity")


# C

MOMENT_SOURCE = table(
    {"documents": optional(whole())},
    fields(text, "sha256_sum looks_of statistics")
    | {"characters": whole(), "padding": optional(number(0, 1)), "settled": flag, "looks": list_of(LOOK)},
    more=True,
)
MOMENT_META = table(
    {"tokens": whole(1), "told": MOMENT_SOURCE}, {"about": table({}, {"layer": whole()}, more=True)}, more=True
)


def _moment(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    """The lower triangle of a second moment, row by row: entry (i, i) is at i (i + 3) / 2."""
    width = (isqrt(8 * sizes["t"] + 1) - 1) // 2
    expected = sizes.get("d_m", width)
    if width != expected or width * (width + 1) // 2 != sizes["t"] or not width:
        entries = expected * (expected + 1) // 2
        raise Misfit(f"triangle has {sizes['t']:,} entries; {entries:,} were expected, of a C of {expected} rows")
    places = np.arange(width, dtype=np.int64)
    squares = arrays["triangle"][places * (places + 3) // 2]
    if squares.min() < 0 or not squares.any():
        raise Misfit("triangle is no second moment: its diagonal holds mean squares, which are 0 or more, not all 0")


# Many facts

SIDES, DIRECTIONS = ("every", "clean"), ("leaks", "suffers")
PARTNERS = tuple(f"{side}.{direction}.partner" for side in SIDES for direction in DIRECTIONS)
SWEEP_META = table({"format": whole(), "asked": dict_of(anything), "keys": text, "report": REPORT}, more=True)
SWEEP_ARRAYS = {
    "squares": Array("m", least=0),
    "edges": Array("edges", finite=False),
    "thresholds": Array("thresholds"),
    "kept": Array("m", "iu", least=0),
} | dict.fromkeys(PARTNERS, Array("m", "i"))
for side in SIDES:
    SWEEP_ARRAYS |= {
        f"{side}.counts": Array("cells", "iu", least=0),
        f"{side}.beyond": Array("thresholds", "iu", least=0),
        f"{side}.pairs": Array(f"{side} 2", "iu", least=0),
        f"{side}.values": Array(side),
    }
    for direction in DIRECTIONS:
        SWEEP_ARRAYS |= dict.fromkeys(
            (f"{side}.{direction}.{size}" for size in ("rms", "largest")), Array("m", finite=False)
        )


def _sweep(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    count, kept, facts = sizes["m"], arrays["kept"], sizes.get("facts")
    if (np.diff(kept.astype(np.int64)) < 1).any() or (facts is not None and (kept >= facts).any()) or not count:
        raise Misfit("kept does not name facts of its set, in order")
    for side in SIDES:
        if (arrays[f"{side}.pairs"] >= count).any():
            raise Misfit(f"{side}.pairs names a fact that is not there")
    for name in PARTNERS:
        if (arrays[name] < -1).any() or (arrays[name] >= count).any():
            raise Misfit(f"{name} names a fact that is not there")


KINDS: dict[str, Kind] = {
    "superposition": Kind(
        _result_meta,
        dict.fromkeys(("p", *COSINES), Array("L m m", finite=False))
        | {"leverage": Array("L m", least=0), "text_leverage": Array("L q", finite=False, least=0)},
        lambda meta: {"L": len(meta["layers"]), "m": len(meta["facts"]), "q": LEVELS},
        together=("p", *COSINES),
        more=_result,
        format=4,
    ),
    "second-moment": Kind(MOMENT_META, {"triangle": Array("t")}, together=("triangle",), more=_moment),
    "sweep": Kind(
        SWEEP_META,
        SWEEP_ARRAYS,
        lambda meta: {"edges": EDGES, "cells": EDGES - 1, "2": 2, "thresholds": 4},
        together=("kept", *(f"{side}.pairs" for side in SIDES), *PARTNERS),
        more=_sweep,
        format=3,
    ),
    "whitened-keys": Kind(
        table({"condition": REPORT, "provenance": PROVENANCE}, more=True),
        {"whitened": Array("m d_m"), "text_leverage": Array("q", finite=False, least=0)}
        | arrays(Array("m", "iu", least=0), "token_ids token_index"),
        lambda meta: {"q": LEVELS},
    ),
    "known-facts": Kind(anything, {"known": Array("m", "bu")}),
}
