"""A run as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kis_core.files import atomic
from kis_core.lifelong import frames, summary
from kis_core.lifelong.request import LifelongRequest
from kis_core.lifelong.trace import EditTrace
from kis_core.results import export

if TYPE_CHECKING:
    from kis_core.simulator import Simulator


def write(bench: Simulator, request: LifelongRequest, film: EditTrace, folder: Path) -> list[Path]:
    """Write `curve.csv` (one row a measured step), `facts.csv` (one row a fact and step) and `lifelong.json`.

    Returns:
        the files written.
    """
    half, (shift, edited_shift) = summary.half_life(film), summary.exactness(film)
    about = {
        "request": request.to_json(),
        "edits_made": film.edits,
        "queue": [
            dict(zip(("subject", "prompt", "target", "relation", "new_target"), one, strict=True)) for one in film.queue
        ],
        "took": film.took.tolist(),
        "passed_over": [int(i) for i in (~film.made).nonzero()[0]],
        "own_key_instead_of_mean_key": [int(i) for i in film.own_key.nonzero()[0]],
        "edits_until_half_is_forgotten": half.edits if half.reached else None,
        "shift_relative_error": {"unrelated": shift, "edited": edited_shift},
        "forecasts_at_the_end": summary.forecasts(film, len(film.steps) - 1),
        "perplexity_on": film.text,
        "words": [{"edits": int(n), "said": said} for n, said in zip(film.steps, film.words, strict=True)],
        "provenance": bench.result.provenance,
    }
    contents = {
        "curve.csv": export.frame_csv(frames.curve(film)),
        "facts.csv": export.frame_csv(frames.facts(film, bench.facts)),
        "lifelong.json": json.dumps(export.plain(about), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    return atomic.write(folder, contents)
