"""What a command says on standard error: how far it is, and why it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable

from kis_core.errors import KisError, shown
from kis_core.facts import FactSet

WRONG_INPUT = 2  # exit status

PACED = {"Second moment of the keys": ("tokens/s", 1.0), "Downloading the model": ("MB/s", 1e6)}
"""Stages that can take hours: the unit of their pace, and how many of what they count make one."""
FEWEST = 1000  # with fewer, no pace is shown: C from files of statistics is counted in layers, a hundred at most
FIRST_SECONDS = 1.0  # of a stage, in which its pace would be a guess


class ProgressLine:
    """Progress on standard error: one line that moves on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        self._stage = ""
        self._moving, self._open = sys.stderr.isatty(), False
        self._began = self._since = time.monotonic()
        self._before = 0  # what was done when the stage began for us: a pass may begin in its middle

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage and how far it is; a `kis_core.progress.Report`."""
        now = time.monotonic()
        begins = stage != self._stage
        if begins:
            self._stage, self._since, self._before = stage, now, done
        if self._moving:
            share = f"{done / total:4.0%}" if total else "    "
            pace = self._pace(done, total, now - self._since)
            sys.stderr.write(f"\r\x1b[K{now - self._began:6.1f} s  {share}  {stage}{pace}")
            self._open = True
        elif begins:
            sys.stderr.write(f"{now - self._began:6.1f} s  {stage}\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """Say something else, on a line of its own."""
        self.close()
        sys.stderr.write(f"{_one_line(text)}\n")

    def say_of(self, facts: FactSet) -> None:
        """Say what format a fact file has, what its reader assumed or changed, and which rows it left out."""
        if facts.format:
            self.say(f"{facts.name}: {facts.format}.")
        for note in facts.notes:
            self.say(note)
        for issue in facts.issues:
            self.say(f"left out row {issue.row}: {issue.reason}")

    def warn(self, caveats: Iterable[str]) -> None:
        """Tell what is to be kept in mind of the numbers, a line each."""
        for caveat in caveats:
            self.say(f"warning: {caveat}")

    def close(self) -> None:
        """Leave the moving line behind; the next report begins another."""
        if self._open:
            sys.stderr.write("\n")
            sys.stderr.flush()
        self._open = False

    def _pace(self, done: int, total: int, seconds: float) -> str:
        made = done - self._before
        if self._stage not in PACED or total < FEWEST or seconds < FIRST_SECONDS or made <= 0:
            return ""
        unit, size = PACED[self._stage]
        rate = made / seconds
        return f"  {rate / size:,.0f} {unit}, {duration((total - done) / rate)} left"


def duration(seconds: float) -> str:
    """A time as people say it: "3 h 05 min", "12 min", "40 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def refuse(error: KisError | OSError) -> int:
    """Say in one line why nothing came of it, and which process says so if there are several; gives the exit status."""
    reason = str(error)
    if isinstance(error, OSError):
        reason = f"{error.strerror or error}: {error.filename}" if error.filename else reason
    several = os.environ.get("WORLD_SIZE", "1") != "1"  # set by torchrun
    who = f"kis_core, process {os.environ.get('RANK', '0')}" if several else "kis_core"
    sys.stderr.write(f"{who}: {_one_line(reason)}\n")
    sys.stderr.flush()
    return WRONG_INPUT


def _one_line(text: str) -> str:
    """One line, even if transformers said more, with nothing in it that a terminal would act on."""
    return shown(" ".join(text.splitlines()), most=None)
