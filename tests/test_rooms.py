"""The house: a room imports only rooms that stand above it in CONTRIBUTING's table, so there is no circle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "kis_core"
ROW = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)
ENTRIES = {"__init__", "__main__"}  # of the package itself: they are no rooms


def table() -> list[str]:
    """The rooms in the order of the map."""
    cells = ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    return [room for cell in cells for room in re.findall(r"`([a-z_]+)(?:\.py|/)`", cell)]


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, also within functions and for types alone."""
    actual = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "kis_core":
            actual |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kis_core."):
            actual.add((node.module or "").split(".")[1])
    return actual - {"__version__"}


def test_every_room_is_on_the_map_and_nothing_else() -> None:
    rooms = {room_of(path) for path in LIBRARY.rglob("*.py")}
    assert rooms - ENTRIES == set(table())


def test_data_goes_one_way() -> None:
    order = table()
    paths = [path for path in LIBRARY.rglob("*.py") if room_of(path) not in ENTRIES]
    arrows = {(room_of(path), room) for path in paths for room in imported(path)}
    against = [(room, other) for room, other in arrows if order.index(other) > order.index(room)]
    assert not against, "these import a room below them in CONTRIBUTING's table"
    assert len(arrows) > len(order), "the imports are not seen"


def test_the_library_knows_nothing_of_the_dashboard() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in LIBRARY.rglob("*.py"))
    assert not re.search(r"^\s*(import|from) (streamlit|pages)\b", text, re.MULTILINE)
