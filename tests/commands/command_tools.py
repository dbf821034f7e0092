"""Reading what commands write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def strict(path: Path) -> dict[str, Any]:
    """JSON as other programs read it: no NaN, no infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)
