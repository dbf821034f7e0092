"""Schema of what edits store: values, gradients, the pool of facts to edit, and the traces of sequences.

Axes: L layers of a result, m facts, d the residual stream, d_m a key, n edits or facts to edit, s measured steps,
k layers that a run edits, r redraws of a forecast run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kis_core.store.schema_of_results import UNIT
from kis_core.store.shapes import (
    Array,
    Arrays,
    Kind,
    Misfit,
    arrays,
    dict_of,
    fields,
    flag,
    list_of,
    number,
    optional,
    table,
    text,
    tuple_of,
    whole,
)

NAMED_SHARE = optional(number(0, 1 + UNIT))
SCORES = table(
    fields(NAMED_SHARE, "ES PS NS rewrite_acc rephrase_acc locality_acc")
    | fields(optional(number(-1 - UNIT, 1 + UNIT)), "EM PM NM")
)
EDIT_META = table(
    {"layer": whole(), "own_key": flag, "answers": list_of(text), "scores": list_of(text)}
    | {"flips": list_of(tuple_of(whole(), number(0), text))}
    | {"landing": optional(table({"fact": whole(), "share": number(), "at_subject": flag}))}
    | {
        "success": table(
            fields(flag, "efficacy likelier")
            | fields(number(0, 1 + UNIT), "probability_new probability_old")
            | fields(NAMED_SHARE, "paraphrase neighbourhood neighbourhood_before")
            | fields(text, "generated generated_before")
            | fields(SCORES, "scores scores_before")
        )
    }
)
FLAGS = Array("n", "bu", most=1)
VALUE_META = table({"losses": list_of(number(), least=1), "probability": number(0, 1 + UNIT), "everywhere": flag})
RUN_META = table(
    {
        "queue": list_of(tuple_of(*[text] * 5)),
        "words": list_of(list_of(tuple_of(text, text)), least=1),
        "text": text,
    },
    {"about": dict_of(text)},
    more=True,
)
MEASURED = {  # names of arrays by their axes; a model that was edited to death has NaN in them
    "s m": "log_odds log_prob subject_token all_tokens renewed shift shift_forecast shift_error",
    "s n": "edited_log_odds edited_log_prob edited_shift edited_shift_forecast edited_shift_error",
    "s k": "drift condition",
    "s": "perplexity",
    "n": "size",
    "n m": "contributions shares",
    "k d d_m": "state.total state.then",
    "k n d_m": "state.past",
    "n d": "state.wrote state.moved_edits",
    "m": "state.renewed",
    "m d": "state.moved",
}
RUN_ARRAYS = {
    "steps": Array("s", "iu", least=0),
    "rank": Array("s m", "iu", least=0),
    "unrelated": Array("m", "iu", least=0),
    "edited_rank": Array("s n", "iu", least=0),
} | arrays(FLAGS, "took made own_key")
for axes, names in MEASURED.items():
    RUN_ARRAYS |= arrays(Array(axes, finite=False), names)

BUDGET_META = table(
    {"whole": flag, "planned": whole(1), "searches": whole(), "seconds": number(0), "about": dict_of(text)}
)
BUDGET_ARRAYS = {
    "steps": Array("s", "iu", least=0),
    "pilots.deltas": Array("pilots d"),
    "pilots.layers": Array("pilots", "iu", least=0),
    "pilots.at": Array("pilots", "iu", least=0),
    "pilots.carried": Array("pilots", finite=False),
} | arrays(Array("r s", finite=False), "recall log_odds perplexity delta_norm carried")
BUDGET_ARRAYS |= arrays(Array("s m", finite=False), "fact_change fact_spread")
LEAGUE_META = table(
    fields(optional(number(0, 1 + UNIT)), "efficacy retention paraphrase neighbourhood recall")
    | fields(optional(number(0)), "perplexity seconds")
    | {"commit": text}
)


def _sensitivity(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    starts, rows = arrays["starts"], arrays["key_rows"]
    if starts[0] != 0 or starts[-1] != sizes["tokens"] or (np.diff(starts) < 1).any():
        raise Misfit("starts does not part the tokens among the facts")
    if (rows < starts[:-1]).any() or (rows >= starts[1:]).any():
        raise Misfit("key_rows names a token of another fact")


def _run(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    steps, unrelated = arrays["steps"], arrays["unrelated"]
    if not len(steps) or steps[0] != 0 or (np.diff(steps) < 1).any() or steps[-1] != sizes["n"]:
        raise Misfit(f"steps is {steps[:8].tolist()}; from 0 to {sizes['n']} edits, in order, was expected")
    facts = sizes.get("facts")
    if len(set(unrelated.tolist())) < len(unrelated) or (facts is not None and (unrelated >= facts).any()):
        raise Misfit("unrelated does not name facts of its set, each once")


def _budget(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    steps = arrays["steps"]
    if not len(steps) or steps[0] != 0 or (np.diff(steps) < 1).any():
        raise Misfit(f"steps is {steps[:8].tolist()}; numbers of edits from 0, in order, were expected")
    if meta["whole"] and not (sizes["pilots"] and sizes["r"]):
        raise Misfit("it says that it is whole; it holds no pilot or no redraw")


def _edit(meta: Mapping[str, Any], arrays: Arrays, sizes: Mapping[str, int]) -> None:
    named = [fact for fact, *_ in meta["flips"]] + ([meta["landing"]["fact"]] if meta["landing"] else [])
    if any(fact >= sizes["m"] for fact in named):
        raise Misfit(f"it names fact {max(named)}; there are {sizes['m']}")


KINDS: dict[str, Kind] = {
    "value": Kind(VALUE_META, arrays(Array("d"), "delta output mean_output") | arrays(Array("d_m"), "key mean_key")),
    "norm-anchor": Kind(table({"norms": list_of(number(0), least=1)}), {}),
    "sensitivity": Kind(
        table({"layer": whole()}, more=True),
        {"starts": Array("m+1", "iu", least=0), "key_rows": Array("m", "iu", least=0)}
        | {"keys": Array("tokens d_m"), "gradients": Array("tokens d")}
        | arrays(Array("m d"), "outputs hidden")
        | arrays(Array("m", finite=False), "log_odds log_prob"),
        together=("starts", "key_rows"),
        more=_sensitivity,
    ),
    "edit-pool": Kind(
        table({"facts": whole(1)}, more=True),
        {"known": FLAGS, "leverage": Array("L n", least=0), "leak": Array("L n", finite=False, least=0)},
        lambda meta: {"n": meta["facts"]},
    ),
    "lifelong": Kind(
        RUN_META,
        RUN_ARRAYS,
        lambda meta: {"n": len(meta["queue"]), "s": len(meta["words"])},
        together=("steps", "unrelated"),
        more=_run,
        optional="state.",
    ),
    "league": Kind(LEAGUE_META, {}),
    "budget": Kind(BUDGET_META, BUDGET_ARRAYS, together=("steps",), more=_budget, optional="fact_"),
    "performed-edit": Kind(
        EDIT_META,
        {"reach": Array("d_m"), "delta": Array("d"), "flipped": Array("m", "bu", most=1)}
        | {"scores": Array("scores m", finite=False)}
        | arrays(Array("m", finite=False), "p shares shift subject_token all_tokens propagated")
        | arrays(Array("m", finite=False), "measured.shift measured.log_odds measured.log_prob"),
        lambda meta: {"m": len(meta["answers"]), "scores": len(meta["scores"])},
        more=_edit,
    ),
}
