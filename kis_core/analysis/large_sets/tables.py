"""Tables of many facts: the strongest pairs, who leaks and who suffers most, and a small part of P around a pair."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kis_core import superposition
from kis_core.analysis.large_sets.analysis import LargeSet
from kis_core.analysis.large_sets.sweep import EntrySpread, Reach
from kis_core.analysis.large_sets.tally import THRESHOLDS
from kis_core.results.pairs import label_of
from kis_core.results.tags import NO_TAG

SIDE = 64  # facts a side of the part around a pair: as many as a heatmap shows well in half a page
ARRANGED = {"nearest": "The facts nearest to the pair", "file": "In the order of the file"}


def side(many: LargeSet, *, clean: bool) -> EntrySpread:
    """All pairs, or those without artefacts."""
    return many.sweep.clean if clean else many.sweep.every


def pairs(many: LargeSet, *, clean: bool = False, tags: Collection[str] = ()) -> pd.DataFrame:
    """The strongest pairs that the sweep kept, by falling |P[i, j]|.

    Args:
        many: the facts.
        clean: without artefact pairs.
        tags: those with one of these `tags.TAGS` alone; all if empty.

    Returns:
        columns as `pairs.table`, but for `rank` among all pairs of this side.
    """
    spread = side(many, clean=clean)
    i, j = spread.pairs.T
    back = many.sweep.back(spread.pairs, spread.values)
    cosine = np.sign(spread.values) * np.sqrt(np.clip(spread.values * back, 0.0, 1.0))
    facts = many.facts.facts
    tagged = many.tags.names(i, j)
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(i) + 1),
            "i": i,
            "j": j,
            "p": spread.values,
            "p_back": back,
            "whitened_angle": superposition.angles(cosine),
            "edited": [label_of(facts[k]) for k in i],
            "suffers": [label_of(facts[k]) for k in j],
            "relation_i": [facts[k].relation.replace("_", " ") for k in i],
            "relation_j": [facts[k].relation.replace("_", " ") for k in j],
            "tags": [", ".join(pair_tags) for pair_tags in tagged],
            "sentence_i": [f"{facts[k].text} {facts[k].target}" for k in i],
            "sentence_j": [f"{facts[k].text} {facts[k].target}" for k in j],
        }
    )
    if tags:
        frame = frame[[bool(set(pair_tags or [NO_TAG]) & set(tags)) for pair_tags in tagged]].reset_index(drop=True)
    return frame


def leaking(many: LargeSet, *, clean: bool = False, count: int | None = None) -> pd.DataFrame:
    """Facts by how far an edit of them reaches, the farthest first.

    Returns:
        columns `i`, `j` (whom it hits most), `edited`, `suffers` (both by `label_of`), `rms` (of P[i, :] over the other
        facts), `p` (P[i, j]); facts without a P are left out.
    """
    return _reaching(many, side(many, clean=clean).leaks, count, edited_first=True)


def suffering(many: LargeSet, *, clean: bool = False, count: int | None = None) -> pd.DataFrame:
    """Facts by how much they get of edits of the others, the most first.

    Returns:
        columns as `leaking`; here j is the fact, i the one whose edit hits it most, `rms` that of P[:, j].
    """
    return _reaching(many, side(many, clean=clean).suffers, count, edited_first=False)


def _reaching(many: LargeSet, reach: Reach, count: int | None, *, edited_first: bool) -> pd.DataFrame:
    order = np.argsort(-reach.rms, kind="stable")[: int(np.isfinite(reach.rms).sum())][:count]
    partner = reach.partner[order]
    i, j = (order, partner) if edited_first else (partner, order)
    facts = many.facts.facts
    inner = np.einsum("nd,nd->n", *(many.whitened[k].astype(np.float64) for k in (i, j)))
    return pd.DataFrame(
        {
            "i": i,
            "j": j,
            "edited": [label_of(facts[k]) for k in i],
            "suffers": [label_of(facts[k]) for k in j],
            "rms": reach.rms[order],
            "p": superposition.matrix.from_products(inner, many.sweep.squares[i]),
        }
    )


def description(many: LargeSet, *, clean: bool = False) -> dict[str, float]:
    """Moments of P, and how many pairs there are at or above each threshold, by their names in a table."""
    spread = side(many, clean=clean)
    moments = spread.moments
    return {
        "pairs": float(moments.count),
        "mean": moments.mean,
        "std": moments.std,
        "skewness": moments.skewness,
        "excess kurtosis": moments.kurtosis,
        "max": moments.max,
    } | {f"|P| ≥ {level:g}": float(count) for level, count in zip(THRESHOLDS, spread.beyond, strict=True)}


@dataclass(frozen=True, eq=False)
class Part:
    """A part of P around a pair.

    Attributes:
        rows: the facts that are edited.
        columns: those that suffer.
        p: (rows, columns).
    """

    rows: np.ndarray
    columns: np.ndarray
    p: np.ndarray

    @property
    def between(self) -> np.ndarray:
        """P between two facts: NaN where a fact meets itself, which is always 1."""
        return np.where(self.rows[:, None] == self.columns[None, :], np.nan, self.p)

    def frame(self, many: LargeSet) -> pd.DataFrame:
        """One row a cell: `i`, `j`, `edited`, `suffers`, `p`."""
        i, j = (grid.ravel() for grid in np.meshgrid(self.rows, self.columns, indexing="ij"))
        facts = many.facts.facts
        told_of = {int(k): label_of(facts[k]) for k in {*self.rows.tolist(), *self.columns.tolist()}}
        return pd.DataFrame(
            {
                "i": i,
                "j": j,
                "edited": [told_of[int(k)] for k in i],
                "suffers": [told_of[int(k)] for k in j],
                "p": self.p.ravel(),
            }
        )


def around(many: LargeSet, i: int, j: int, *, arranged: str = "nearest", most: int = SIDE) -> Part:
    """P around the pair (i, j), at most so many facts a side.

    Args:
        many: the facts.
        i: the edited fact.
        j: the one that suffers.
        arranged: "nearest", rows are i and the facts whose edits hit j most, columns are j and the facts that an edit
            of i hits most; or "file", rows are those around i in the file, columns those around j.
        most: facts a side.
    """
    m = len(many.facts)
    if arranged == "file":
        rows, columns = (_beside(fact, m, most) for fact in (i, j))
    else:
        rows, columns = _first(i, many.column(j), j, most), _first(j, many.row(i), i, most)
    return Part(rows, columns, many.window(rows, columns))


def _beside(fact: int, m: int, most: int) -> np.ndarray:
    begin = max(0, min(fact - most // 2, m - most))
    return np.arange(begin, min(begin + most, m))


def _first(fact: int, p: np.ndarray, itself: int, most: int) -> np.ndarray:
    """A fact, and then those with the largest |P|, whose own diagonal entry (always 1) says nothing."""
    size = np.nan_to_num(np.abs(p))
    size[itself] = -1.0
    size[fact] = np.inf
    return np.argsort(-size, kind="stable")[:most]
