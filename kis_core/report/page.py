"""The file: the contents of a report in its template, with nothing in it that could be taken for markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from kis_core import progress
from kis_core.charts.colours import CATEGORICAL, FAINT_SHADES, INK_SHADES, MUTED_SHADES, SEQUENTIAL, Shades
from kis_core.files import atomic
from kis_core.report.contents import contents
from kis_core.results.export import plain
from kis_core.results.result import Result
from kis_core.store.store import Store

TEMPLATE = Path(__file__).parent / "template"
SCRIPTS = ("data.js", "plots.js", "heatmap.js", "sections.js", "edits.js", "main.js")
GROUND = Shades("#ffffff", "#0e1117")  # that of the dashboard's pages
SHADES = {
    "ground": GROUND,
    "ink": INK_SHADES,
    "muted": MUTED_SHADES,
    "faint": FAINT_SHADES,
    **dict(zip(("blue", "orange", "green", "pink", "amber", "sky"), CATEGORICAL, strict=True)),
    "dark-blue": SEQUENTIAL[-1],
}
"""The dashboard's colours by their names in the style sheet."""
MARKUP = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
"""What could end the element that JSON stands in; only its strings hold such characters, where these mean the same."""


def file_name(result: Result) -> str:
    """A name for the report of a result, of plain letters: its model and its facts."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{Path(result.request.model).name} {result.facts.name}".lower())
    return f"superposition-{words.strip('-')}.html"


def write(result: Result, store: Store, path: Path, report: progress.Report = progress.silent) -> int:
    """Write the report of a result to a file; its bytes.

    Raises:
        ReportError: the result is too large for one.
        NotWritten: the file cannot be written; what stood there is untouched.
    """
    text = html(result, store, report).encode()
    with atomic.replaced(path, make_folder=True) as stream:
        stream.write(text)
    return len(text)


def html(result: Result, store: Store, report: progress.Report = progress.silent) -> str:
    """The report of a result as HTML; the same result, edits and runs always give the same text.

    Text of users stands in it as JSON alone, which the script reads and shows as text; the page's own policy lets no
    other script run, and nothing be fetched.

    Args:
        result: the analysis.
        store: where edits and runs of it are looked for.
        report: called after every layer.

    Raises:
        ReportError: the result is too large for one.
    """
    data = json.dumps(plain(contents(result, store, report)), allow_nan=False, separators=(",", ":"))
    style = f"{_theme()}\n{_read('report.css')}"
    script = "\n".join(['"use strict";', *map(_read, SCRIPTS)])
    parts = {
        "STYLE_HASH": _hash(style),
        "SCRIPT_HASH": _hash(script),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": data.translate(MARKUP),
    }
    text = _read("report.html")
    for name, part in parts.items():  # the data last: no name is looked for in what a user wrote
        text = text.replace(f"%{name}%", part, 1)
    return text


def _theme() -> str:
    """The colours as variables of the style sheet, for a light and for a dark page."""
    rules = []
    for at, theme in enumerate(Shades._fields):
        colours = "".join(f"--{name}:{shades[at]};" for name, shades in SHADES.items())
        rules.append(f":root[data-theme={theme}]{{color-scheme:{theme};{colours}}}")
    return "\n".join(rules)


def _read(name: str) -> str:
    return (TEMPLATE / name).read_text("utf-8")


def _hash(text: str) -> str:
    """The name by which the page's policy lets a script or a style through."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
