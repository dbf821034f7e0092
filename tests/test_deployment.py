"""What a server is built from: pins and their hashes, the Dockerfile's steps, the settings a server starts with."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from kis_core.read_only import VARIABLE
from tests import audit

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; ([^\\]*))?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)
HOST = re.compile(r"https?://(?!127\.0\.0\.1)")
START = "from streamlit.testing.v1 import AppTest; at = AppTest.from_file('app.py', default_timeout=250).run(); "
SHOWS_P = "assert not at.exception and not at.error and at.metric, at"


def name_of(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def pins(text: str) -> dict[str, str]:
    return {name_of(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def test_the_lock_holds_what_is_tested_and_a_hash_of_every_file() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked, asked = pins(text), pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert len(PIN.findall(text)) == len(locked), "each with its hashes, and nothing else in the file"
    assert {name: locked.get(name) for name in asked} == asked | {"torch": None}
    installed = {name_of(found.name): found.version for found in metadata.distributions()}
    assert {name: version for name, version in locked.items() if name in installed} == {
        name: installed[name] for name in locked if name in installed
    }
    needed = {name for package in locked for name in _needs(package)}
    assert needed <= {*locked, "torch", "setuptools"}, "and all that these need here"


def _needs(package: str) -> Iterator[str]:
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return  # of another system
    for line in lines:
        if ";" not in line:
            yield name_of(re.match(r"[\w.-]+", line)[0])


def test_files_for_others_name_no_server_of_packages() -> None:
    for name in ("requirements.lock", "Dockerfile", "Makefile", ".dockerignore"):
        assert not HOST.search((ROOT / name).read_text(encoding="utf-8")), name


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and what follows each."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if line.strip()]


def copied() -> Iterator[tuple[str, str]]:
    """What is copied, and where to."""
    for instruction, rest in steps():
        if instruction == "COPY":
            source, target = shlex.split(rest)
            yield source, target


def test_the_dockerfiles_steps_can_be_taken() -> None:
    made = steps()
    assert {instruction for instruction, _ in made} <= INSTRUCTIONS
    assert made[0] == ("FROM", f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"), "the tested Python"
    for instruction, rest in made:
        if instruction == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)
        if instruction in ("CMD", "HEALTHCHECK"):
            command = json.loads(rest.removeprefix("CMD "))
            assert command[0] == "python"
            if command[1] == "-c":
                ast.parse(command[2])
    version = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))["torch"]
    (torch,) = (rest for instruction, rest in made if rest.startswith("TORCH_CPU="))
    hashed = re.search(r"sha256:([0-9a-f]{64})", torch)
    assert f"torch=={version}+cpu" in torch
    assert hashed[1] in (ROOT / "requirements.lock").read_text(encoding="utf-8"), "that of the tested build"


def test_the_container_runs_without_root_on_files_it_cannot_change() -> None:
    made = steps()
    assert not [rest for instruction, rest in made if instruction == "COPY" and "--chown" in rest]
    (user,) = (at for at, (instruction, _) in enumerate(made) if instruction == "USER")
    assert made[user][1] == "kis"
    assert "useradd --uid 1000" in made[user - 1][1]
    assert max(at for at, (instruction, _) in enumerate(made) if instruction in ("RUN", "COPY")) < user


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {source for source, _ in copied()}
    assert kept == sources
    for source in sources:
        assert (ROOT / source).exists(), source


@pytest.mark.stress
def test_the_dashboard_starts_from_what_is_copied_alone_and_read_only(tmp_path: Path) -> None:
    for source, target in copied():
        assert target in ("./", f"./{source}")
        place = tmp_path / "app" / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
    environment = {name: value for name, value in os.environ.items() if name not in ("KIS_GALLERY", "PYTHONPATH")}
    environment |= {"KIS_CACHE": str(tmp_path / "cache"), VARIABLE: "1"}
    subprocess.run([sys.executable, "-c", START + SHOWS_P], cwd=tmp_path / "app", env=environment, check=True)
    assert not (tmp_path / "cache").exists()


def test_the_server_keeps_to_this_machine_and_its_own_names() -> None:
    server = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["server"]
    assert server["address"] == "127.0.0.1"
    assert set(server["allowedHosts"]) == {"localhost", "127.0.0.1", "::1"}
    assert server["maxUploadSize"] <= 500
    changed = {"enableCORS", "enableXsrfProtection", "enableAgentApi"} & set(server)
    assert not changed, "the first two are on by default, the last one is off"


FLAW = {"id": "CVE-1", "fix_versions": ["2.0"]}
REPORTS = {
    "": (2, "cannot be reached from here (pip-audit: no route"),
    '{"dependencies": [{"name": "a", "skip_reason": "not found"}]}': (2, "it knows none of the 1 packages"),
    '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}': (0, "1 of 1 packages looked at, 0 known"),
    json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": [FLAW]}]}): (1, "a 1: CVE-1, mended in 2.0"),
}


@pytest.mark.parametrize("report", REPORTS)
def test_an_audit_that_found_out_nothing_is_no_good_news(report: str) -> None:
    status, said = REPORTS[report]
    words, ended = audit.verdict(report, "Traceback\nno route to the host")
    assert ended == status
    assert said in words


def test_the_threat_model_names_files_that_there_are() -> None:
    named = re.findall(r"`((?:tests|pages|kis_core|\.streamlit)/[\w./-]+)`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 30
    assert not [name for name in named if not (ROOT / name).exists()]
