"""What the store's tests run in processes of their own; imports little, so that a spawned process starts fast."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kis_core.store.store import Entry, Store, StoreError

SPAWN = multiprocessing.get_context("spawn")
DYING_STATUS = 77  # exit status of a process that was made to die in the middle of a write


def entry(number: int, size: int = 64) -> Entry:
    """A value whose parts all follow from one number, so that a mixture of two values shows."""
    return Entry({"number": number}, {"values": np.full(size, number, np.int64), "last": np.array(number)})


def number_of(value: Entry) -> int:
    """The number a value was made of.

    Raises:
        ValueError: its parts do not belong together.
    """
    number = value.meta["number"]
    if not (np.all(value.arrays["values"] == number) and value.arrays["last"] == number):
        raise ValueError(f"a mixture: {value}")
    return int(number)


class Counting:
    """Computes a value and counts how often."""

    def __init__(self, value: Entry) -> None:
        self.value, self.times = value, 0

    def __call__(self) -> Entry:
        self.times += 1
        return self.value


def sha256(value: Entry) -> str:
    """Hash of all that is in a value."""
    digest = hashlib.sha256(repr(value.meta).encode())
    for name in sorted(value.arrays):
        digest.update(name.encode() + value.arrays[name].tobytes())
    return digest.hexdigest()


def ask(root: Path, marks: Path, start: Any, answers: Any, seconds: float) -> None:
    """Ask for one value together with others; leave a mark for having computed it and answer with its hash."""

    def compute() -> Entry:
        (marks / str(os.getpid())).touch()
        time.sleep(seconds)
        return Entry({"pid": os.getpid()}, {"noise": np.random.default_rng().random(1_000)})

    start.wait()
    answers.put(sha256(Store(root).get_or_compute("same-key", compute)))


def hold(root: Path, key: str, held: Any) -> None:
    """Compute a value for ever, and tell when that has begun."""

    def compute() -> Entry:
        held.set()
        while True:
            time.sleep(60)

    Store(root).get_or_compute(key, compute)


def put_with_little_room(root: Path, key: str, free_bytes: dict[str, int], answers: Any) -> None:
    """Put values under limits on the size of a file, then without; answer with what became of each."""
    store = Store(root)
    store.get(key)
    outcomes = {}
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for number, (part, free) in enumerate(free_bytes.items(), start=2):
        value = entry(number)
        meta = value.meta | ({"long": "x" * 500_000} if part == "meta" else {})
        arrays = value.arrays | ({"long": np.zeros(100_000)} if part == "arrays" else {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
        try:
            store.put(key, meta, arrays)
            outcomes[part] = "stored"
        except StoreError as error:
            outcomes[part] = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        outcomes[f"{part} afterwards"] = number_of(store.get(key) or entry(0))
    store.put(key, entry(9).meta, entry(9).arrays)
    outcomes["with room"] = number_of(store.get(key) or entry(0))
    answers.put(outcomes)


def die_at(step: int, root: Path, key: str, number: int) -> None:
    """Put a value and die at the step-th write, fsync, rename, unlink or statement of the index; exit 0 if it ends."""
    store = Store(root)
    store.get(key)
    dying_at(step, store)
    store.put(key, entry(number).meta, entry(number).arrays)
    os._exit(0)


def dying_at(step: int, store: Store) -> None:
    """From now on, end this process at the step-th write, fsync, rename, unlink or statement of the index."""
    steps = iter(range(1, step))

    def count() -> None:
        if next(steps, None) is None:
            os._exit(DYING_STATUS)

    def before(action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            count()
            return action(*arguments, **options)

        return counted

    def half_a_write(path: Path, mode: str = "r", *options: Any, **more: Any) -> Any:
        stream = real_open(path, mode, *options, **more)
        return _HalfWriter(stream, count) if "x" in mode or "w" in mode else stream

    real_open = Path.open
    Path.open = half_a_write  # type: ignore[method-assign, assignment]
    os.fsync, os.replace, os.unlink = before(os.fsync), before(os.replace), before(os.unlink)
    store._index.cache._con.set_trace_callback(lambda _: count())


class _HalfWriter:
    """A stream that has half of what is written on disk when its step comes."""

    def __init__(self, stream: Any, count: Callable[[], None]) -> None:
        self._stream, self._count = stream, count

    def __enter__(self) -> _HalfWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: bytes) -> None:
        self._stream.write(content[: len(content) // 2])
        self._stream.flush()
        self._count()
        self._stream.write(content[len(content) // 2 :])


def churn(root: Path, seed: int, threads: int, seconds: float, answers: Any) -> None:
    """Get, put, delete and compute at random in several threads; answer with the problems and the number of hits."""
    store = Store(root)
    problems: list[str] = []
    hits: list[bool] = []

    def turn(choose: random.Random) -> None:
        key = f"key-{choose.randrange(3)}"
        action = choose.randrange(10)
        if action < 5:
            value = store.get(key)
            hits.append(value is not None and number_of(value) > 0)
        elif action < 8:
            value = entry(choose.randrange(1, 4), size=choose.randrange(1, 5_000))
            store.put(key, value.meta, value.arrays)
        elif action < 9:
            store.delete(key)
        else:
            number_of(store.get_or_compute(key, lambda: entry(choose.randrange(1, 4))))

    def work(number: int) -> None:
        choose = random.Random(f"{seed}-{number}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                turn(choose)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test is told
                problems.append(repr(error))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    answers.put((problems, sum(hits)))
