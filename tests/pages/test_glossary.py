"""What pages say of themselves: every term they explain is in the glossary, and the server takes what they promise."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from pages.parts.frame import glossary

ROOT = Path(__file__).resolve().parents[2]
LIMIT = re.compile(r"^\w*MEGABYTES = ([0-9_]+)", re.MULTILINE)


def explained() -> set[str]:
    """The names in all calls of `explain`; each is a literal."""
    names: set[str] = set()
    for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "explain":
                names |= {ast.literal_eval(name).lower() for name in call.args}
    return names


def test_every_term_that_a_page_explains_is_in_the_glossary() -> None:
    assert set() < explained() <= set(glossary.terms())


def test_every_term_stands_in_the_glossary_once_with_a_sentence() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    names = [name.lower() for name in re.findall(r"^- \*\*(.+?)\*\*", text, re.MULTILINE)]
    assert sorted(names) == sorted(glossary.terms())
    assert all(line.endswith(".") for line in glossary.terms().values())


def test_no_page_promises_more_than_the_server_takes() -> None:
    most = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]["maxUploadSize"]
    pages = {path.name: path.read_text() for path in (ROOT / "pages").rglob("*.py")}
    limits = {name: int(LIMIT.search(text)[1]) for name, text in pages.items() if "max_upload_size" in text}
    assert set(limits) == {"library.py", "your_facts.py", "talk.py"}
    assert max(limits.values()) == most
