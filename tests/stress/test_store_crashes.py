"""A process that writes to the store dies at any moment: what was acknowledged is there, and nothing grows."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kis_core.covariance.checkpoint import Checkpoints
from kis_core.store.leftovers import HEAD, PART
from kis_core.store.store import Store, key_of
from tests.store.store_tools import close, leftovers, matrices
from tests.store_workers import dying_at, entry, number_of

KEYS = tuple(key_of("kind", {"number": number}) for number in range(3))
ACTIONS = 12  # of a process that is let live
STEPS = 90  # the last at which one dies
SECONDS = 0.06  # until one is killed, at most
PARTS = 2  # of a checkpoint
MOST_BYTES = 1 << 20  # of the folder, whatever happened in it: a few values and an index
GONE = 0  # the number of no value


def at_work(store: Store, chance: random.Random, say: Callable[[str, int], None]) -> None:
    """Put, replace, compute and delete values, and write checkpoints; say what is begun and what is done."""
    checkpoints = Checkpoints(store, {"of": "it"}, {"moments": ["never"]}, lambda: 0.0)
    for _ in range(ACTIONS):
        key, number = chance.choice(KEYS), chance.randrange(1, 10**6)
        match chance.randrange(5):
            case 0:
                say(f"begin {key}", GONE)
                store.delete(key)
                say(f"done {key}", GONE)
            case 1:
                say(f"begin {key}", number)
                found = store.get_or_compute(key, lambda of=number: entry(of))  # type: ignore[misc]
                say(f"done {key}", number_of(found))
            case 2:
                say("begin checkpoint", number)
                parts = ((f"part-{k}", {"sum": np.full(8, number)}) for k in range(PARTS))
                checkpoints.save({"tokens": number}, iter(parts))
                say("done checkpoint", number)
            case _:
                say(f"begin {key}", number)
                store.put(key, entry(number).meta, entry(number).arrays)
                say(f"done {key}", number)


def said_by_one_that_dies(root: Path, chance: random.Random) -> list[tuple[str, str, int]]:
    """What a process said before it was killed, or ended itself in the middle of a step."""
    seed, step = chance.random(), chance.randrange(1, STEPS) if chance.random() < 0.5 else None
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        status = 99
        try:
            store = Store(root)
            if step:
                dying_at(step, store)
            at_work(store, random.Random(seed), lambda what, number: os.write(writing, f"{what} {number}\n".encode()))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    if step is None:
        time.sleep(chance.uniform(0, SECONDS))
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 99
    with os.fdopen(reading) as stream:
        lines = [line.split() for line in stream.read().splitlines()]
    return [(event, what, int(number)) for event, what, number in lines]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("crashes", "seed"), [(8, 1), pytest.param(1_000, 2, marks=pytest.mark.stress)])
def test_what_was_acknowledged_survives_any_crash_and_nothing_is_left_that_grows(
    crashes: int, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    root, chance = tmp_path / "cache", random.Random(seed)
    possible: dict[str, set[int]] = {what: {GONE} for what in (*KEYS, "checkpoint")}
    began = 0
    for _ in range(crashes):
        for event, what, number in said_by_one_that_dies(root, chance):
            began += event == "begin"
            possible[what] = {number} if event == "done" else possible[what] | {number}
        store = Store(root)
        for key in KEYS:
            found = store.get(key)
            actual = GONE if found is None else number_of(found)
            assert actual in possible[key]
            possible[key] = {actual}
        read = Checkpoints(store, {"of": "it"}, {}).read()
        actual = GONE if read is None else read.place["tokens"]
        assert actual in possible["checkpoint"]
        assert read is None or all(np.all(array == actual) for array in read.arrays.values())
        possible["checkpoint"] = {actual}
        assert leftovers(root) == []
        kinds = [item.kind for item in store.inventory() if item.kind in (HEAD, PART)]
        assert len(kinds) == (0 if read is None else 1 + PARTS)
        assert len(matrices(root)) <= len(KEYS) + 1 + PARTS
        assert list((root / "locks").iterdir()) == list((root / "damaged").iterdir()) == []
        close(store)
        assert sum(path.stat().st_size for path in root.rglob("*")) < MOST_BYTES
    assert began > crashes / 2
    record_property("trials", crashes)
