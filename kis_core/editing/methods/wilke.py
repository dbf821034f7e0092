"""WilKE: every edit is ROME's in the layer where it changes the weights least (Hu et al., arXiv 2402.10987).

Where a layer has no pattern of an edit ("pattern unmatch"), the edit takes a large change there; the paper holds that
to be what lifelong editing fails by. So the edit is made in each of the layers, by itself, and kept in the one where

    ‖ΔW_l‖ / ‖W_l‖

is smallest, with ‖ΔW_l‖ = ‖δ_l‖ ‖u_l‖; W_l is the weight as the edits before left it. That is how the authors' code
decides. It costs one search for a value a layer; their code searches once more in the layer picked, where the same edit
is found. They look at layers 0 to 23 of GPT2-XL (of 48) and 0 to 6 of GPT-J (of 28).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kis_core import progress
from kis_core.editing.edit import Change, EditError
from kis_core.editing.method import Method, PerformedEdit, RequestedEdit, Site
from kis_core.editing.methods.rome import METHOD as ROME
from kis_core.editing.registry import register


@dataclass(frozen=True, slots=True, kw_only=True)
class Wilke(Method):
    """See the module."""

    def perform(
        self, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
    ) -> list[PerformedEdit]:
        """One edit, in one of the layers; see `Method.perform`. A layer where it cannot be made is passed over.

        Raises:
            EditError: more than one edit, no layer, layers out of order, or an edit that cannot be made in any.
        """
        if len(requested) != 1 or not site.layers or list(site.layers) != sorted(set(site.layers)):
            raise EditError(
                f"{self.label} makes one edit at a time, and needs layers in order; found {len(requested)} and "
                f"{site.layers}"
            )
        tried: dict[int, PerformedEdit] = {}
        error: EditError | None = None
        for layer in site.layers:
            try:
                (tried[layer],) = ROME.perform(replace(site, layers=(layer,)), requested, report)
            except EditError as fault:
                error = fault
        if error and not tried:
            raise error
        picked = min(tried, key=lambda layer: relative_change(tried[layer].changes[0], site.weight(layer)))
        none = np.zeros(site.loaded.architecture.widths[1])
        keys = np.stack([tried[layer].keys[0] if layer in tried else none for layer in site.layers])
        return [replace(tried[picked], keys=keys)]


def relative_change(change: Change, weight: np.ndarray) -> float:
    """‖ΔW‖ / ‖W‖."""
    return float(np.linalg.norm(change.matrix) / np.linalg.norm(weight))


METHOD = register(
    Wilke(
        name="wilke",
        label="WilKE",
        place=36,
        paper="arXiv 2402.10987",
        help="ROME’s edit in the layer of a range where it changes the weights least, picked anew for every edit; "
        "takes a search for a value in each of the layers.",
        picks=True,
    )
)
