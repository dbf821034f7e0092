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

FACT_COLUMNS = ("index", "subject", "prompt", "target", "relation", "key_token_index", "key_token", "first_token")
MOMENT_COLUMNS = ("mean", "std", "skewness", "kurtosis", "max")
STATISTICS_COLUMNS = (
    *("layer", *MOMENT_COLUMNS, "rank", "condition_number", "ridge"),
    *(f"clean_{name}" for name in MOMENT_COLUMNS),
    "weak_below",
)


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
    """The arrays: `layers` (L,), `p`, `whitening_cosine`, `activation_cosine` (L, m, m), `leverage` (L, m)."""
    stream = io.BytesIO()
    arrays = {field: getattr(result, field) for field in (*MATRICES, "leverage")}
    np.savez_compressed(stream, layers=np.array(result.layers), **arrays)
    return stream.getvalue()


def facts_csv(result: Result) -> str:
    """The facts, as `facts.parse` reads them back, where their keys were taken, and how large these are.

    Of every layer there is the leverage k_iᵀC⁻¹k_i, and whether the key is weak there (empty where that is unknown).
    """
    tags = [result.tags(layer) for layer in result.layers]
    unknown = [math.isnan(result.weak_below(layer)) for layer in result.layers]
    rows = []
    for k, fact in enumerate(result.facts.facts):
        described = [k, fact.subject, fact.prompt, fact.target, fact.relation]
        key = [result.key_token_index[k], result.key_tokens[k], bool(tags[0].first[k])]
        weak = ["" if missing else bool(of_layer.weak[k]) for of_layer, missing in zip(tags, unknown, strict=True)]
        rows.append([*described, *key, *result.leverage[:, k], *weak])
    of_layers = [f"{name}_layer_{layer}" for name in ("leverage", "weak_key") for layer in result.layers]
    return table((*FACT_COLUMNS, *of_layers), rows)


def statistics_csv(result: Result) -> str:
    """One row a layer: moments of P (of all pairs, without artefacts), the condition of C, below what keys are weak."""
    rows = []
    for report in result.reports:
        both = (report.moments, report.clean_moments)
        every, clean = ([getattr(moments, column) for column in MOMENT_COLUMNS] for moments in both)
        condition = [report.rank, report.condition_number, report.ridge]
        rows.append([report.layer, *every, *condition, *clean, result.weak_below(report.layer)])
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
    writer.writerows([harmless(cell) for cell in row] for row in (columns, *rows))
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
