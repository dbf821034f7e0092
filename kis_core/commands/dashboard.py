"""`app`: the dashboard, in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kis_core
from kis_core.commands.line import ProgressLine
from kis_core.errors import KisError

PACKAGE = Path(kis_core.__file__).parent
PLACES = (PACKAGE.parent, PACKAGE / "dashboard")  # of app.py: in a checkout, and in an installed library


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "open the dashboard in the browser"
    app = commands.add_parser("app", help=summary, description=f"{summary}; what stands behind -- is for streamlit run")
    app.add_argument("options", nargs="*", metavar="-- OPTION", help="such as -- --server.port 8600")
    app.set_defaults(command=_app)


def folder() -> Path:
    """Where the dashboard lies.

    Raises:
        KisError: it is in none of the usual places.
    """
    for place in PLACES:
        if (place / "app.py").is_file():
            return place
    raise KisError(f"app.py was expected in {PLACES[0]} or {PLACES[1]}; install the package again.")


def _app(args: argparse.Namespace, _: ProgressLine) -> Iterator[object]:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *args.options]
    if subprocess.call(command, cwd=folder()):  # noqa: S603 - our own program; its folder holds Streamlit's settings
        raise KisError("The dashboard ended with an error; what it was stands above.")
    yield "The dashboard has ended."
