"""The store under crashes at every step, and many readers and writers at once."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path

import pytest

from kis_core.store.store import Store
from tests import store_workers
from tests.store_workers import DYING_STATUS, SPAWN, entry, number_of

pytestmark = pytest.mark.stress

PATIENCE = 120  # seconds until a test gives up on another process; reached only when something hangs
CHURN_SECONDS = 20
KEY = "kind-0"


def matrix_names(root: Path) -> set[str]:
    return {path.name for path in (root / "matrices").iterdir()}


def names_in_index(root: Path) -> set[str]:
    index = sqlite3.connect(root / "index" / "cache.db")
    rows = index.execute("SELECT value FROM Cache").fetchall()
    index.close()
    return {json.loads(json.loads(row)["text"])["file"] for (row,) in rows}


@pytest.mark.parametrize("before", [None, 1], ids=["no old value", "an old value"])
def test_case_2_a_reader_sees_the_old_or_the_new_value_of_a_dying_writer(tmp_path: Path, before: int | None) -> None:
    outcomes = []
    for step in itertools.count(1):
        root = tmp_path / f"cache-{step}"
        if before is not None:
            store = Store(root)
            store.put(KEY, entry(before).meta, entry(before).arrays)
            store._index.close()
        writer = SPAWN.Process(target=store_workers.die_at, args=(step, root, KEY, 2), daemon=True)
        writer.start()
        writer.join(PATIENCE)
        assert writer.exitcode in (0, DYING_STATUS)
        reader = Store(root)
        actual = reader.get(KEY)
        outcomes.append(None if actual is None else number_of(actual))
        assert list((root / "damaged").iterdir()) == []
        assert number_of(reader.get_or_compute(KEY, lambda: entry(3))) == (outcomes[-1] or 3)
        if writer.exitcode == 0:
            break
    assert outcomes == sorted(outcomes, key=lambda number: number or 0)
    assert set(outcomes) == {before, 2}
    assert len(outcomes) > 6  # open, write, two fsyncs and the statements of the index were among the steps


def test_case_5_four_processes_of_two_threads_get_put_and_delete_at_random(tmp_path: Path) -> None:
    root, answers = tmp_path / "cache", SPAWN.Queue()
    arguments = [(root, seed, 2, CHURN_SECONDS, answers) for seed in range(4)]
    processes = [SPAWN.Process(target=store_workers.churn, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    results = [answers.get(timeout=CHURN_SECONDS + PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert [problem for problems, _ in results for problem in problems] == []
    assert all(hits > 0 for _, hits in results)
    assert list((root / "damaged").iterdir()) == []
    assert matrix_names(root) == names_in_index(root)
