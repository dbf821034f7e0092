"""The store and the second moment under kills, crashes at every step, and many readers and writers at once."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kis_core.store.store import Store
from tests import moment_workers, store_workers
from tests.store_workers import DYING_STATUS, SPAWN, Counting, entry, number_of

pytestmark = pytest.mark.stress

PATIENCE = 120  # seconds until a test gives up on another process; reached only when something hangs
TAKEOVER_SECONDS = 2.0  # the battery's bound, from the kill of the lock's holder to the value
KILLS = 20
TOKENS = 20_000
CHURN_SECONDS = 20
KEY = "kind-0"


def matrix_names(root: Path) -> set[str]:
    return {path.name for path in (root / "matrices").iterdir()}


def names_in_index(root: Path) -> set[str]:
    index = sqlite3.connect(root / "index" / "cache.db")
    rows = index.execute("SELECT value FROM Cache").fetchall()
    index.close()
    return {json.loads(json.loads(row)["text"])["file"] for (row,) in rows}


def test_case_1_a_second_moment_killed_at_any_moment_comes_out_as_if_it_never_was(tmp_path: Path) -> None:
    whole = moment_workers.second_moments(tmp_path / "whole", TOKENS, PATIENCE)
    choose = random.Random(1)
    resumed_midway = 0
    for number in range(KILLS):
        root = tmp_path / f"cache-{number}"
        how = {"kill_after": choose.random() * whole.seconds, "batch": choose.choice((0, 1, 1, 1))}
        killed = moment_workers.second_moments(root, TOKENS, PATIENCE, **how)
        kept = moment_workers.kept_batches(root)
        again = moment_workers.second_moments(root, TOKENS, PATIENCE)
        assert again.c == whole.c
        assert again.left == set()
        if kept:
            assert again.batches == whole.batches - kept, "it goes on, and does not begin anew"
        resumed_midway += killed is None and 0 < kept < whole.batches
    assert resumed_midway > KILLS // 2  # the moments do fall into the accumulation


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
        found = reader.get(KEY)
        outcomes.append(None if found is None else number_of(found))
        assert list((root / "damaged").iterdir()) == []
        assert number_of(reader.get_or_compute(KEY, lambda: entry(3))) == (outcomes[-1] or 3)
        if writer.exitcode == 0:
            break
    assert outcomes == sorted(outcomes, key=lambda number: number or 0)
    assert set(outcomes) == {before, 2}
    assert len(outcomes) > 6  # open, write, two fsyncs and the statements of the index were among the steps


def test_case_3_eight_processes_ask_for_one_key_again_and_again(tmp_path: Path) -> None:
    for round_number in range(5):
        marks = tmp_path / f"marks-{round_number}"
        marks.mkdir()
        start, answers = SPAWN.Barrier(8), SPAWN.Queue()
        arguments = (tmp_path / f"cache-{round_number}", marks, start, answers, 2.0)
        processes = [SPAWN.Process(target=store_workers.ask, args=arguments, daemon=True) for _ in range(8)]
        for process in processes:
            process.start()
        hashes = {answers.get(timeout=PATIENCE) for _ in processes}
        for process in processes:
            process.join(PATIENCE)
        assert len(list(marks.iterdir())) == 1
        assert len(hashes) == 1


def seconds_until_others_go_on(store: Store, key: str) -> float:
    """Kill the process that computes a key's value while three threads wait for it; how long they then take."""
    held = SPAWN.Event()
    holder = SPAWN.Process(target=store_workers.hold, args=(store.root, key, held), daemon=True)
    holder.start()
    assert held.wait(PATIENCE)
    waiting, reported = threading.Barrier(4), threading.local()

    def report(*_: object) -> None:
        if not getattr(reported, "once", False):
            reported.once = True
            waiting.wait(PATIENCE)

    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(store.get_or_compute, key, lambda: entry(1), report) for _ in range(3)]
        waiting.wait(PATIENCE)
        killed = time.monotonic()
        os.kill(holder.pid, signal.SIGKILL)
        assert [number_of(value.result(PATIENCE)) for value in found] == [1, 1, 1]
        seconds = time.monotonic() - killed
    holder.join(PATIENCE)
    return seconds


def test_case_4_others_go_on_within_two_seconds_of_the_death_of_the_locks_holder(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for number in range(5):
        assert seconds_until_others_go_on(store, f"kind-{number}") < TAKEOVER_SECONDS


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


def test_case_6_every_byte_of_the_index_flipped_in_turn_costs_at_most_one_computation(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    store.put(KEY, entry(1).meta, entry(1).arrays)
    store._index.close()
    index = tmp_path / "cache" / "index"
    sound = (index / "cache.db").read_bytes()
    (matrix,) = (tmp_path / "cache" / "matrices").iterdir()
    content = matrix.read_bytes()
    choose = random.Random(6)
    for at in [at for at, byte in enumerate(sound) if byte]:
        for path in (*index.iterdir(), *matrix.parent.iterdir()):
            path.unlink()
        matrix.write_bytes(content)
        (index / "cache.db").write_bytes(sound[:at] + bytes([sound[at] ^ (1 << choose.randrange(8))]) + sound[at + 1 :])
        compute = Counting(entry(1))
        for _ in range(2):
            newcomer = Store(tmp_path / "cache")
            assert number_of(newcomer.get_or_compute(KEY, compute)) == 1, f"byte {at}"
            newcomer._index.close()
        assert compute.times <= 1, f"byte {at}"
