"""What a method weighs beside the search for the value, chosen by the model it edits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from kis_core.editing.edit import EditError
from kis_core.models import catalog


@dataclass(frozen=True, slots=True)
class ModelScale:
    """The model that settings are chosen for.

    Attributes:
        model: catalogue name, Hub id or folder.
        layers: L.
        width: d.
        mlp_width: d_m.
    """

    model: str
    layers: int
    width: int
    mlp_width: int

    @property
    def published(self) -> str | None:
        """Catalogue name of a model that papers may have edited: any of the catalogue outside the demo family."""
        entry = catalog.find(self.model)
        return entry.name if entry and entry.family != catalog.DEMO else None


@dataclass(frozen=True, slots=True)
class Settings:
    """A method's own terms; this one has none. A method with terms derives a frozen dataclass of its own."""

    @classmethod
    def suited(cls, scale: ModelScale) -> Self:
        """What to start from for a model."""
        return cls()

    def to_json(self) -> dict[str, Any]:
        """As JSON, by the names that stored runs know: no two methods share one."""
        return asdict(self)


def check_positive(**terms: float) -> None:
    """Whether terms, by name, are finite numbers above zero.

    Raises:
        EditError: one of them is not.
    """
    for name, value in terms.items():
        if not (isinstance(value, float | int) and math.isfinite(value) and value > 0):
            raise EditError(f"{name} has to be a positive number; found {value}")
