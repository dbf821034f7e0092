"""The line on standard error: how far a command is, its pace, and the time left."""

from __future__ import annotations

import sys

import pytest

from kis_core.commands.line import ProgressLine
from kis_core.facts import builtin, parse


class TestProgress:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time, which the test moves on."""
        now = [0.0]
        monkeypatch.setattr("kis_core.commands.line.time.monotonic", lambda: now[0])
        return now

    def on_a_terminal(self) -> ProgressLine:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys.stderr, "isatty", lambda: True)
            return ProgressLine()

    def test_moves_on_one_line_of_a_terminal(self, capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
        line = self.on_a_terminal()
        line("Whitening", 1, 4)
        clock[0] = 7.0
        line("Whitening", 4, 4)
        line.close()
        line.close()
        assert capsys.readouterr().err == "\r\x1b[K   0.0 s   25%  Whitening\r\x1b[K   7.0 s  100%  Whitening\n"

    def test_tells_pace_and_time_left(self, capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
        line = self.on_a_terminal()
        for now, done in ((100.0, 500_000), (100.5, 501_000), (110.0, 520_000), (120.0, 500_000 + 60_000)):
            clock[0] = now
            line("Second moment of the keys", done, 10_000_000)
        said = [part.partition("keys")[2] for part in capsys.readouterr().err.split("\r\x1b[K")[1:]]
        # 20,000 tokens in 10 s and 9,480,000 to go; then 60,000 in 20 s, and 9,440,000
        assert said == ["", "", "  2,000 tokens/s, 1 h 19 min left", "  3,000 tokens/s, 52 min left"]

    def test_leaves_the_line_for_all_else(self, capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
        line = self.on_a_terminal()
        line("Downloading the model", 0, 100_000_000)
        clock[0] = 10.0
        line("Downloading the model", 50_000_000, 100_000_000)
        line.say("left out row 3")
        *_, last = capsys.readouterr().err.split("\r\x1b[K")
        assert last == "  10.0 s   50%  Downloading the model  5 MB/s, 10 s left\nleft out row 3\n"

    def test_says_the_format_of_a_fact_file_and_what_was_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = ProgressLine()
        line.say_of(builtin())
        assert capsys.readouterr().err == ""
        line.say_of(parse(b"subject;prompt;target\nRome;Rome is in;Italy\n;{} is in;Italy\n", name="mine.csv"))
        found = "mine.csv: columns subject, prompt and target in CSV with semicolons."
        assert capsys.readouterr().err.splitlines() == [found, "left out row 3: subject is blank"]
