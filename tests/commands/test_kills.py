"""RELIABILITY case 1 in short: an analysis killed three times in a row ends with the same bytes and leaves nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import moment_workers

TOKENS = 8_000
PATIENCE = 120  # seconds until the test gives up on a process; reached only when something hangs


@pytest.mark.stress  # the command is killed twice in `test_covariance_command.py`
def test_killed_again_and_again_a_second_moment_comes_out_as_if_it_never_was(tmp_path: Path) -> None:
    whole = moment_workers.second_moments(tmp_path / "whole", TOKENS, PATIENCE)
    assert whole.batches > 12
    root, choose, kept = tmp_path / "killed", random.Random(2), [0]
    for _ in range(3):
        how = {"kill_after": choose.random() / 50, "batch": choose.randint(2, 4)}
        assert moment_workers.second_moments(root, TOKENS, PATIENCE, **how) is None
        kept.append(moment_workers.kept_batches(root))
    assert kept == sorted(kept), "each goes on where the one before was"
    again = moment_workers.second_moments(root, TOKENS, PATIENCE)
    assert again.c == whole.c
    assert again.left == set()
    assert again.batches == whole.batches - kept[-1] < whole.batches - 2, "it went on from the last checkpoint"
