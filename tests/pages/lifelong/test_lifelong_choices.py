"""Choices of the page of runs: their names and defaults are the library's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kis_core import editing, lifelong
from kis_core.lifelong import frames
from pages.parts.frame import state
from pages.parts.lifelong import below, choice


def test_links_know_the_methods_draws_and_orders_of_the_library() -> None:
    options = {name: tuple(state.CHOICES[name].options()) for name in ("editor", "method", "draw", "arrange", "shade")}
    assert options["editor"] == tuple(method.name for method in editing.METHODS) == tuple(choice.METHOD_NAMES)
    assert options["method"] == tuple(method.name for method in editing.RANK_ONE)
    assert (options["draw"], options["arrange"]) == (tuple(lifelong.DRAWS), tuple(lifelong.ORDERS))
    assert options["shade"] == tuple(frames.KINDS) == tuple(below.SHADES)
    assert tuple(below.CHRONICLE) == state.CHRONICLE
    assert tuple(choice.AGAINST) == state.AGAINST
    assert state.MOST_EDITS <= lifelong.MOST_EDITS
    usual = lifelong.Draw()
    defaults = [state.CHOICES[name].default for name in ("draw", "arrange", "seed")]
    assert defaults == [usual.by, usual.order, usual.seed]


def test_what_every_page_needs_loads_no_torch() -> None:
    code = "import sys; import pages.parts.frame.state; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
