"""A result in files that other programs read: NPZ, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kis_core.facts import OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from kis_core.files import atomic
from kis_core.files.csv_records import guarded
from kis_core.results.result import MATRICES, Result

FACT_COLUMNS = ("index", "subject", "prompt", "target", "relation", "key_token_index", "key_token")
MOMENT_COLUMNS = ("mean", "std", "skewness", "kurtosis", "max")
STATISTICS_COLUMNS = ("layer", *MOMENT_COLUMNS, "rank", "condition_number", "ridge")


def write(result: Result, folder: Path) -> list[Path]:
    """Write `superposition.npz`, `facts.csv`, `statistics.csv` and `request.json` into a folder.

    Returns:
        the files written.

    Raises:
        NotWritten: one cannot be written; all are as they were before.
    """
    contents: dict[str, bytes | str] = {
        "superposition.npz": npz(result),
        "facts.csv": facts_csv(result),
        "statistics.csv": statistics_csv(result),
        "request.json": json.dumps(result.provenance, indent=2, ensure_ascii=False) + "\n",
    }
    return atomic.write(folder, contents)


def npz(result: Result) -> bytes:
    """The matrices: `layers` (L,), `p`, `whitening_cosine`, `activation_cosine` (L, m, m)."""
    stream = io.BytesIO()
    np.savez_compressed(stream, layers=np.array(result.layers), **{field: getattr(result, field) for field in MATRICES})
    return stream.getvalue()


def facts_csv(result: Result) -> str:
    """The facts, as `facts.parse` reads them back, and where their keys were taken."""
    rows = zip(result.facts.facts, result.key_token_index, result.key_tokens, strict=True)
    return table(
        FACT_COLUMNS,
        ([k, f.subject, f.prompt, f.target, f.relation, index, token] for k, (f, index, token) in enumerate(rows)),
    )


def statistics_csv(result: Result) -> str:
    """One row a layer: moments of the off-diagonal entries of P, and the condition of C."""
    rows = []
    for report in result.reports:
        moments = [getattr(report.moments, column) for column in MOMENT_COLUMNS]
        rows.append([report.layer, *moments, report.rank, report.condition_number, report.ridge])
    return table(STATISTICS_COLUMNS, rows)


def frame_csv(frame: pd.DataFrame) -> str:
    """Any frame as CSV, with the guards of `table`."""
    return table(list(frame.columns), frame.itertuples(index=False, name=None))


def template_csv() -> str:
    """A fact file to fill in: the header, and two facts as examples."""
    return table(
        [*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS],
        [
            ("Danielle Darrieux", "The mother tongue of {} is", "French", "native_language"),
            ("Kingdom of Afghanistan", "The capital city of {} is", "Kabul", "country_capital"),
        ],
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV text in which a spreadsheet finds no formula; numbers keep all their digits."""
    stream = io.StringIO()
    writer = csv.writer(stream)  # with its own line ends, CR LF: only then are cells that hold a lone CR quoted
    writer.writerow(columns)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return stream.getvalue()


def harmless(cell: Any) -> Any:
    """Text that a spreadsheet would run gets an apostrophe in front; numbers stay as they are."""
    return guarded(cell) if isinstance(cell, str) else cell


def plain(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinities become null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
