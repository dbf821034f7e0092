"""Run the battery and write docs/reliability.md: `make battery`, or a part of it, such as `make battery ARGS="2 9"`.

Lines of what is not run this time stay as they are, each with the date and commit of its own last run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.battery.cases import ROOT, Break, Case, belongs, breaks, cases, threats

PAGE = ROOT / "docs" / "reliability.md"
CAUGHT, MISSED, NOT_RUN = "caught", "**not caught**", "not run"
PATIENCE = 600  # seconds for the tests of one break
TOO_HEAVY = ("benchmark", "real")  # marks of tests that no battery runs
QUICK = "not stress and not browser and not benchmark and not real"  # what a break is shown to
HEAD = """# Reliability

What the program must survive, which tests hold that, and whether they notice when a defence is taken out. The page is
written by `make battery`; `tests/battery/cases.toml` says which test holds which case, and `tests/battery/breaks.toml`
which defences are taken out. A commit with a + had changes on top.

## Cases

*Trials* are kills, damaged files, odd inputs and interactions where a test counts them, else tests. *Not run* counts
the tests that were left out in that run, such as those in a browser.

| case | what is done, and what is to come of it | tests | trials | failures | not run | date | commit |
| ---: | --- | --- | ---: | ---: | ---: | --- | --- |
"""
BREAKS_HEAD = """
## Deliberate breaks

Each line is a change to a copy of the program, and the quick tests that were run on it until the first failure.
*Caught* means that one failed.

| case | the program without the defence | file | tests | outcome | date | commit |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(eq=False)  # pytest keeps plugins in a set
class Recorder:
    """A plugin of pytest that keeps what became of each test.

    Attributes:
        trials: of each test that ran, by its node id.
        failed: the node ids of those that failed.
    """

    trials: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "failed":
            self.failed.add(report.nodeid)
        if report.when == "call" and report.outcome in ("passed", "failed"):
            self.trials[report.nodeid] = int(dict(report.user_properties).get("trials", 1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.battery", description=__doc__)
    parser.add_argument("cases", nargs="*", type=int, metavar="CASE", help="all by default; 0 for defences of no case")
    parser.add_argument("--without", action="append", default=[], choices=["stress", "browser"], help="tests so marked")
    parser.add_argument("--leave-out", action="append", default=[], metavar="TEST", help="a node id, or how ids begin")
    parser.add_argument("--no-breaks", action="store_true", help="take no defence out")
    parser.add_argument("--no-cases", action="store_true", help="nothing but that")
    parser.add_argument("--processes", type=int, default=2, help="that run tests side by side (%(default)s)")
    options = parser.parse_args()
    began = datetime.now(UTC)
    chosen = [case for case in cases() if case.number in (options.cases or range(1, 100))]
    recorder, lines = Recorder(), _written()
    if chosen and not options.no_cases:
        every = collected(chosen)
        run(recorder, chosen, options)
        lines |= {str(case.number): row(case, every, recorder) for case in chosen}
    asked = options.cases or range(100)
    wanted = [] if options.no_breaks else [each for each in breaks() if set(each.cases or (0,)) & set(asked)]
    missed = []
    PAGE.write_text(page(lines), encoding="utf-8")
    for each, outcome in taken_out(wanted):
        lines[each.what] = break_row(each, outcome)
        missed += [each.what] if outcome != CAUGHT else []
        PAGE.write_text(page(lines), encoding="utf-8")  # each time: who stops it keeps what was seen
    for fault in [*sorted(recorder.failed), *missed]:
        say(f"FAILED  {fault}")
    minutes = (datetime.now(UTC) - began).total_seconds() / 60
    say(f"{len(recorder.trials)} tests, {len(wanted)} breaks in {minutes:.0f} minutes: {PAGE}")
    return 1 if recorder.failed or missed else 0


def run(recorder: Recorder, chosen: Iterable[Case], options: argparse.Namespace) -> None:
    """Run the tests of some cases, but those that are to be left out."""
    named = dict.fromkeys(test for case in chosen for test in case.tests)
    marks = " and ".join(f"not {mark}" for mark in (*TOO_HEAVY, *options.without))
    side_by_side = ["-n", str(options.processes), "--dist", "loadscope"] if options.processes > 1 else ["-n", "0"]
    profile = "quick" if "stress" in options.without else "stress"
    left_out = [f"--deselect={test}" for test in options.leave_out]
    asked = [*named, "-m", marks, f"--hypothesis-profile={profile}", *side_by_side, *left_out]
    status = pytest.main(asked, plugins=[recorder])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the tests did not run: {status!r}")


def collected(chosen: Iterable[Case]) -> list[str]:
    """The node ids of all tests of some cases."""
    named = dict.fromkeys(test for case in chosen for test in case.tests)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n", "0", "-m", "", *named]  # quiet once, or no names
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise SystemExit(listed.stdout[-2000:] + listed.stderr[-2000:])
    found = [line for line in listed.stdout.splitlines() if line.startswith("tests/") and "::" in line]
    if absent := [test for test in named if not any(belongs(each, test) for each in found)]:
        raise SystemExit(f"these tests were not found: {', '.join(absent)}")
    return found


def taken_out(wanted: Iterable[Break]) -> Iterator[tuple[Break, str]]:
    """Take each defence out on a copy of the tree, and say whether its tests notice.

    Raises:
        SystemExit: what is to be replaced is not there once.
    """
    with tempfile.TemporaryDirectory(prefix="battery-") as folder:
        copy = Path(folder, "tree")
        for name in git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        for each in wanted:
            path = copy / each.file
            sound = path.read_text(encoding="utf-8")
            if sound.count(each.old) != 1:
                raise SystemExit(f"{each.file} has {sound.count(each.old)} times: {each.old}")
            path.write_text(sound.replace(each.old, each.new), encoding="utf-8")
            outcome = outcome_of(each, copy)
            path.write_text(sound, encoding="utf-8")
            say(f"{outcome}: {each.what}")
            yield each, outcome


def outcome_of(each: Break, copy: Path) -> str:
    """Whether the tests of a break fail on the copy in which it was made."""
    marks = "" if any(test.endswith("]") for test in each.tests) else QUICK  # who names one variant means it
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-m",
        marks,
        *each.tests,
    ]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with (copy.parent / "said").open("w+") as said:
        started = subprocess.Popen(command, cwd=copy, env=environment, stdout=said, stderr=said, start_new_session=True)
        try:
            status = started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{MISSED} (no answer)"
        finally:
            with suppress(ProcessLookupError):  # and what a failed test has left running
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        if status in (0, 1):
            return CAUGHT if status else MISSED
        said.seek(0)
        return f"{MISSED} (the tests did not run: status {status})\n{said.read()[-1500:]}"


def page(lines: dict[str, str]) -> str:
    """The text of docs/reliability.md."""
    table = [lines.get(str(case.number)) or row(case, (), Recorder()) for case in cases()]
    broken = [lines.get(each.what) or break_row(each, NOT_RUN) for each in breaks()]
    caught = sum(f" | {CAUGHT} | " in line for line in broken)
    covered = {number for each in breaks() for number in each.cases}
    bare = ", ".join(str(case.number) for case in cases() if case.number not in covered)
    rows = len({each.threat for each in breaks()} & set(threats()))
    end = (
        f"\n{caught} of {len(broken)} are caught. All of them together belong to {rows} of the {len(threats())} lines "
        f"of SECURITY.md's table and to {len(covered)} of the {len(cases())} cases"
    )
    return "\n".join([HEAD + "\n".join(table), BREAKS_HEAD + "\n".join([*broken, end])]) + (
        f"; cases {bare} have none.\n" if bare else ".\n"
    )


def row(case: Case, every: Iterable[str], recorder: Recorder) -> str:
    own = [test for test in every if any(belongs(test, named) for named in case.tests)]
    ran = [test for test in own if test in recorder.trials]
    failures = sum(test in recorder.failed for test in own)
    waiting = sum(test not in recorder.trials and test not in recorder.failed for test in own)
    trials = f"{sum(recorder.trials[test] for test in ran):,} | {failures}" if ran or failures else f"{NOT_RUN} | –"
    when = f"{datetime.now(UTC).date()} | {commit()}" if ran or failures else "– | –"
    return f"| {case.number} | {_cell(case.words)} | {_tests(case.tests)} | {trials} | {waiting} | {when} |"


def break_row(each: Break, outcome: str) -> str:
    numbers = ", ".join(map(str, each.cases)) or "–"
    when = f"{datetime.now(UTC).date()} | {commit()}" if outcome != NOT_RUN else "– | –"
    said = outcome.splitlines()[0]
    return f"| {numbers} | {_cell(each.what)} | `{each.file}` | {_tests(each.tests)} | {said} | {when} |"


def _written() -> dict[str, str]:
    """The lines of the page as it is: by the number of the case, or by what is taken out."""
    lines = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else ():
        cells = line.split(" | ")
        if line.startswith("| ") and len(cells) in (7, 8):
            lines[cells[0].removeprefix("| ") if len(cells) == 8 else cells[1]] = line
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "∣")


def _tests(names: Iterable[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names)


def commit() -> str:
    changed = [line for line in git("status", "--porcelain").splitlines() if not line.endswith("docs/reliability.md")]
    return git("rev-parse", "--short", "HEAD").strip() + ("+" if changed else "")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
