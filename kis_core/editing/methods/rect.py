"""RECT: of ROME's edit, only the largest relative changes are kept (Gu et al., arXiv 2401.04700, section 5).

An entry of ΔW stays where |ΔW / W| is among the largest k %, and is zero elsewhere; W is the weight as the edits before
left it, as in the authors' code. The edit is found by ROME as it stands, so what lands on its own key is no longer all
of δ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from kis_core import progress
from kis_core.editing.edit import DenseEdit, EditError
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site
from kis_core.editing.methods.rome import METHOD as ROME
from kis_core.editing.registry import register
from kis_core.editing.settings import ModelScale, Settings, check_positive

KEPT = 0.2  # as its authors' code runs ROME: four fifths of the entries are set to zero


@dataclass(frozen=True, slots=True)
class RectSettings(Settings):
    """RECT's own term.

    Attributes:
        rect_kept: the share of the entries of ΔW that are kept, k %.
    """

    rect_kept: float

    def __post_init__(self) -> None:
        check_positive(rect_kept=self.rect_kept)
        if self.rect_kept > 1:
            raise EditError(f"rect_kept is a share of the entries, at most 1; found {self.rect_kept}")

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """The published share, whatever the model."""
        return cls(KEPT)


def largest_changes(change: np.ndarray, weight: np.ndarray, kept: float) -> np.ndarray:
    """ΔW without the entries that change their weight least, relative to it; all are (d, d_m).

    Where a weight is zero, any change of it counts as large, and none at all as none.

    Args:
        change: ΔW.
        weight: W before this change.
        kept: share of the entries that stay.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(change / weight).ravel()
    relative[np.isnan(relative)] = 0.0
    dropped = int(change.size * (1 - kept))
    result = change.copy().ravel()
    result[np.argpartition(relative, dropped)[:dropped]] = 0.0
    return result.reshape(change.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect(Method):
    """See the module."""

    def perform(
        self, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """One edit in one layer; see `Method.perform`.

        Raises:
            EditError: more than one edit or layer, or an edit that cannot be made there.
        """
        layer, _ = self.check_single(site, requested)
        settings = self.own_settings(site)
        (made,) = ROME.perform(site, requested, report)
        matrix = largest_changes(made.changes[0].matrix, site.weight(layer), settings.rect_kept)
        return [replace(made, changes=(DenseEdit(layer, matrix),))]


METHOD = register(
    Rect(
        name="rect",
        label="RECT",
        place=34,
        paper="arXiv 2401.04700",
        help="ROME’s edit, of which only the fifth of the entries stays that changes its weights most, relative to "
        "them; its spillover follows no P.",
        settings=RectSettings,
    )
)
