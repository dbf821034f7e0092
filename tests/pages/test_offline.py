"""No page needs a network, and none asks for anything there; see `no_network` in tests/conftest.py as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ASKED
from tests.pages.conftest import ROOT, SCRIPTS, Open

OPEN_ALL = """
import sys
from streamlit.testing.v1 import AppTest
for script in sys.argv[1:]:
    page = AppTest.from_file("app.py", default_timeout=250)
    if script != "app.py":
        page.switch_page(script)
    page.run()
    assert not page.exception and not page.error, (script, page)
    print(script)
"""
ALONE = ["unshare", "--map-root-user", "--net"]  # without any network


@pytest.mark.parametrize(
    "script", [SCRIPTS[0], *(pytest.param(each, marks=pytest.mark.stress) for each in SCRIPTS[1:])]
)
def test_no_page_asks_anyone(script: str, open_page: Open) -> None:
    open_page(script)
    assert ASKED == []


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_every_page_draws_without_a_network(tmp_path: Path) -> None:
    if subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("no process can be cut off from the network here")
    environment = {name: value for name, value in os.environ.items() if name != "KIS_GALLERY"}
    drawn = subprocess.run(
        [*ALONE, sys.executable, "-c", OPEN_ALL, *SCRIPTS],
        cwd=ROOT, env=environment | {"KIS_CACHE": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert drawn.stdout.split() == list(SCRIPTS), drawn.stderr[-3000:]
