"""Installed with pip, elsewhere than in a checkout: the library, its data, the dashboard and the `kis` command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kis_core
from kis_core.commands import dashboard
from kis_core.store.store import DEFAULT_ROOT

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_has_the_dashboard_at_its_top_and_its_cache_beside_it() -> None:
    assert dashboard.folder() == ROOT
    assert DEFAULT_ROOT == ROOT / "cache"


@pytest.mark.stress
def test_the_wheel_holds_the_library_its_data_and_the_dashboard_and_runs_elsewhere(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "-w", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "kis_core").rglob("*") if path.is_file()}
    dashboards = ["app.py", ".streamlit/config.toml", "docs/glossary.md"]
    dashboards += [str(path.relative_to(ROOT)) for path in (ROOT / "pages").rglob("*") if path.is_file()]
    expected |= {f"kis_core/dashboard/{name}" for name in dashboards}
    assert {name for name in expected if "__pycache__" not in name} <= held
    assert not [name for name in held if name.startswith(("tests", "cache", "pages", "app.py"))]

    installed = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], check=True)
    actual = "import kis_core.commands.dashboard as d, kis_core.store.store as s; print(d.folder(), s.DEFAULT_ROOT)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {actual}"]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    folder, root = told.split()
    assert Path(folder) == installed / "kis_core" / "dashboard"
    assert installed not in Path(root).parents
    version = subprocess.run(
        [str(installed / "bin" / "kis"), "models"],
        cwd=tmp_path, env={"PYTHONPATH": str(installed)}, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "demo-gpt2-32" in version
    assert kis_core.__version__ in wheel.name
