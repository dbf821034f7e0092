"""What a page says it takes is what the server lets through: its limit has the last word over a widget's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = re.compile(r"^\w*MEGABYTES = ([0-9_]+)", re.MULTILINE)


def test_no_page_promises_more_than_the_server_takes() -> None:
    most = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]["maxUploadSize"]
    pages = {path.name: path.read_text() for path in (ROOT / "pages").rglob("*.py")}
    limits = {name: int(LIMIT.search(text)[1]) for name, text in pages.items() if "max_upload_size" in text}
    assert set(limits) == {"library.py", "your_facts.py"}
    assert max(limits.values()) == most
