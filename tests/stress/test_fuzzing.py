"""Spoilt inputs of every kind that comes from elsewhere: read, or refused in words, and soon; seeds are fixed.

What once ended otherwise stands in FOUND, and is tried each time.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kis_core import __main__ as command_line
from kis_core.commands import options
from kis_core.covariance import rome_files
from kis_core.errors import KisError
from kis_core.facts import parse
from kis_core.library import bundles
from kis_core.models.files import ModelFiles
from kis_core.models.gguf import GgufFile
from kis_core.store import array_files
from kis_core.store.array_files import Damaged
from kis_core.store.store import Store
from pages.parts.frame import link, state
from tests.stress import mutations
from tests.stress.mutations import ODD_BYTES, ODD_VALUES, as_json, spoilt, tangled

QUICK, MANY = 8, 10_000
SECONDS = 2.0  # CPU time of one input of a few kB: hundreds of times what it takes
Try = Callable[[bytes], object]


class Targets:
    """What is fed to each reader, and the reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "spoilt"
        self.store = Store(folder / "cache")
        self.model = folder / "model"
        self.model.mkdir()

    def facts(self, name: str) -> Try:
        def tried(data: bytes) -> None:
            read = parse(data, name=name)
            assert all(issue.reason.isprintable() for issue in read.issues)
            assert all(note.isprintable() for note in read.notes)

        return tried

    def bundle(self, data: bytes) -> None:
        before = {item.key for item in self.store.inventory()}
        try:
            bundles.load(self.store, io.BytesIO(data))
        finally:
            for item in self.store.inventory():
                assert self.store.verify(item.key)
                if item.key not in before:
                    self.store.delete(item.key)

    def gguf(self, data: bytes) -> None:
        self.file.write_bytes(data)
        read = GgufFile(self.file).checked()
        assert read.parameters() >= 0
        assert read.header.architecture.isprintable()

    def weights(self, data: bytes) -> None:
        (self.model / "model.safetensors").write_bytes(data)
        assert ModelFiles(self.model).parameters() >= 0

    def stored(self, data: bytes) -> None:
        self.file.write_bytes(data)
        for read in (array_files.check, array_files.load):
            with suppress(Damaged):
                read(self.file, hashlib.sha256(data).hexdigest())
                list(array_files.arrays(self.file))

    def folder_of_a_model(self, data: bytes) -> None:
        for name in ("config.json", "model.safetensors.index.json", "adapter_config.json", "quant_config.json"):
            (self.model / name).unlink(missing_ok=True)
        name, _, content = data.partition(b"\0")
        (self.model / name.decode()).write_bytes(content)
        files = ModelFiles(self.model)
        for ask in (files.refuse_packed, files.weights, files.parts, files.checked):
            with suppress(KisError):
                ask()

    def statistics(self, data: bytes) -> None:
        path = self.file.with_suffix(".npz")
        path.write_bytes(data)
        rome_files.files.header(path)
        rome_files.read(path)


def inputs(name: str, folder: Path) -> Callable[[random.Random], bytes]:
    """How inputs of a kind are made."""
    kind, _, variant = name.partition(" ")
    if kind == "csv":
        return lambda chance: spoilt(mutations.table(chance.choice(",;\t")), chance)
    if kind == "json":
        record = mutations.RECORDS[variant]
        whole = [record, record]

        def spoilt_json(chance: random.Random) -> bytes:
            return spoilt(as_json(whole), chance) if chance.random() < 0.3 else as_json(tangled(whole, chance))

        return spoilt_json
    if kind in ("xlsx", "npz", "bundle"):
        parts = {"xlsx": mutations.workbook, "npz": mutations.statistics}.get(kind, lambda: mutations.bundle(folder))()
        compression = zipfile.ZIP_DEFLATED if kind == "xlsx" else zipfile.ZIP_STORED
        return lambda chance: spoilt_archive(parts, compression, chance)
    if kind == "weights" or kind == "stored":
        return spoilt_header
    if kind == "model":
        return spoilt_folder
    good = {"parquet": mutations.parquet, "gguf": mutations.gguf}[kind]()
    return lambda chance: spoilt(good, chance)


def spoilt_archive(parts: dict[str, bytes], compression: int, chance: random.Random) -> bytes:
    """The archive itself or one of its parts."""
    if chance.random() < 0.2:
        return spoilt(mutations.zipped(parts, compression), chance)
    name = chance.choice(list(parts))
    content = parts[name]
    if name == bundles.MANIFEST and chance.random() < 0.8:
        return mutations.zipped(parts | {name: as_json(tangled(json.loads(content), chance))}, compression)
    return mutations.zipped(parts | {name: spoilt(content, chance)}, compression)


def spoilt_header(chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return spoilt(mutations.safetensors(as_json(mutations.HEADER)), chance)
    return mutations.safetensors(as_json(tangled(mutations.HEADER, chance)))


def spoilt_folder(chance: random.Random) -> bytes:
    """The name and the content of one file of a model's folder."""
    configuration = {key: part for key, part in mutations.CONFIGURATION.items() if chance.random() < 0.7}
    files: dict[str, Any] = {"config.json": configuration, "model.safetensors.index.json": mutations.WEIGHTS}
    files |= {"adapter_config.json": {"base_model_name_or_path": "a/b"}, "quant_config.json": {"w_bit": 4}}
    name, value = chance.choice(list(files.items()))
    content = spoilt(as_json(value), chance) if chance.random() < 0.3 else as_json(tangled(value, chance))
    return name.encode() + b"\0" + content


KINDS = ("csv", *(f"json {record}" for record in mutations.RECORDS), "xlsx", "parquet", "bundle", "gguf")
KINDS += ("weights", "stored", "model", "npz")


def damaged(good: bytes, old: bytes, new: bytes) -> bytes:
    assert good.count(old) == 1
    return good.replace(old, new)


def npz(old: bytes, new: bytes) -> bytes:
    parts = mutations.statistics()
    return mutations.zipped(parts | {"mom2.count.npy": damaged(parts["mom2.count.npy"], old, new)}, zipfile.ZIP_STORED)


def shaped(*shape: float) -> bytes:
    return mutations.safetensors(as_json({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 64]}}))


FOUND: dict[str, tuple[Callable[[], bytes], ...]] = {
    "parquet": (
        lambda: damaged(mutations.parquet(), b"\x0c%\x02\x18\x07sub", b"\x0c%\x00\x18\x07sub"),
    ),  # ended Python
    "npz": (lambda: npz(b"'shape': (), }", b"'shape': ((  }"),),
    "gguf": (
        lambda: damaged(mutations.gguf(), struct.pack("<Q", 1) + b"a", struct.pack("<Q", 2**63) + b"a"),
        lambda: damaged(mutations.gguf(), struct.pack("<II", 4, 32), struct.pack("<II", 4, 0)),
        lambda: damaged(mutations.gguf(), struct.pack("<II", 4, 32), struct.pack("<If", 6, float("inf"))),
    ),
    "weights": (
        lambda: shaped(-1e308),
        lambda: shaped(1e308, 10**400),
        lambda: shaped(10**400),
        lambda: shaped(-4, -4),
    ),
}
"""Inputs that once ended in a traceback, in nonsense, or with the process."""


def reader_of(kind: str, targets: Targets) -> Try:
    first = kind.partition(" ")[0]
    if first in ("csv", "json", "xlsx", "parquet"):
        return targets.facts(f"mine.{first}")
    readers: dict[str, Try] = {"bundle": targets.bundle, "gguf": targets.gguf, "weights": targets.weights}
    readers |= {"stored": targets.stored, "model": targets.folder_of_a_model, "npz": targets.statistics}
    return readers[first]


def attempt(read: Try, data: bytes, about: object) -> None:
    """Read something: a typed error is fine, any other is not, nor is waiting."""
    began = time.process_time()
    try:
        read(data)
    except KisError as error:
        if not str(error).replace("\n", "").isprintable():
            raise AssertionError(f"{about}: {error!r}") from error
    except Exception as error:
        raise AssertionError(f"{about}: {type(error).__name__}: {error}\n{data!r:.3000}") from error
    assert time.process_time() - began < SECONDS, (about, data)


@pytest.fixture
def fleeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to outlive a loss of power here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fleeting")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "seed"), [(QUICK, 1), pytest.param(MANY, 2, marks=pytest.mark.stress)])
def test_a_changed_file_is_read_or_refused_in_words(
    kind: str, count: int, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    read = reader_of(kind, Targets(tmp_path))
    make, chance = inputs(kind, tmp_path / "good"), random.Random(f"{kind} {seed}")
    for known in FOUND.get(kind, ()):
        with pytest.raises(KisError):
            read(known()) if kind != "parquet" else parse(known(), name="mine.parquet")
    for number in range(count):
        attempt(read, make(chance), (kind, seed, number))
    record_property("trials", count)


LINK = {
    "model": "demo-gpt2-32", "layer": "2", "facts": "builtin", "behind": "tokens:5000~layers:0-1~dtype:float32",
    "pair": "3-7", "window": "0-40-8-72", "tail": "0.2~1", "relations": "a~b", "tags": "no tag", "find": "Vladimir",
    "target": "French", "strength": "0.35", "how": "clamp:2~steps:10", "queue": "0:Rome~5:Paris%7E", "step": "5",
    "edits": "60", "otherlayer": "1", "other": "demo-gpt2-64", "through": "1", "watched": "3", "k": "250",
}  # fmt: skip


class Query(SimpleNamespace):
    """What streamlit gives of an address."""

    def to_dict(self) -> dict[str, str]:
        return dict(self.values)

    def get_all(self, name: str) -> list[str]:
        return [self.values[name]]


def odd_link(chance: random.Random) -> dict[str, str]:
    names = [*LINK, *state.CHOICES]
    asked = {}
    for name in chance.sample(names, chance.randrange(1, 9)):
        text = LINK.get(name, "1").encode()
        text = spoilt(text, chance) if chance.random() < 0.8 else spoilt(chance.choice(ODD_BYTES), chance)
        asked[name if chance.random() < 0.95 else text.decode(errors="replace")] = text.decode(
            errors=chance.choice(("replace", "surrogateescape"))
        )
    return asked


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "seed"), [(QUICK * 3, 1), pytest.param(MANY, 2, marks=pytest.mark.stress)])
def test_any_text_in_a_link_is_read_or_refused_in_words(
    count: int, seed: int, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    chance, models = random.Random(seed), state.models()
    monkeypatch.setattr(state, "models", lambda: models)
    choices = state.CHOICES | {"behind": state.Behind(lambda: {"builtin"})}
    for _ in range(count):
        asked = odd_link(chance)
        monkeypatch.setattr(link.st, "query_params", Query(values=asked))
        began = time.process_time()
        chosen, notes = link.read(choices, lambda: models)
        assert time.process_time() - began < SECONDS, asked
        assert set(chosen) == set(choices)
        assert all(isinstance(note, str) for note in notes)
        for name, value in chosen.items():
            if value != choices[name].default:
                assert choices[name].read(choices[name].write(value)) == value, asked
    record_property("trials", count)


COMMANDS = {
    "analyse": "--model a --facts b --out o --tokens 5 --documents all --settled 0.1 --layers 0,2 --dtype float32",
    "covariance": "--model a --corpus c --out o --tokens all --layers 1 --device cpu --settled 0.02",
    "edit": "--model a --facts b --out o --layer 1 --fact 0 --target x --strength 0.5 --steps 3 --prefixes 10x5,3x2",
    "lifelong": "--model a --out o --layer 0-2 --edits 5 --seed 1 --every 2 --draw relation --relations a,b --batch 2",
    "study": "--models a,b --out o --edits 3 --seed 5 --layers 0 --clamp 0.5",
    "forgetting": "--models a --out o --edits 3 --seeds 2 --methods rome,memit --every 1",
    "report": "--model a --facts b --out o.html",
    "export": "--out x.zip --model a --with-moments",
    "import": "bundle.zip",
    "models": "",
}
ODD_WORDS = [part.decode(errors="surrogateescape") for part in ODD_BYTES] + [str(value) for value in ODD_VALUES]


def odd_line(chance: random.Random) -> list[str]:
    name = chance.choice(list(COMMANDS))
    line = [name, *COMMANDS[name].split()]
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(line) + 1)
        new = spoilt(line[at - 1].encode(errors="replace"), chance).decode(errors="surrogateescape")
        line[at : at + chance.randrange(2)] = [chance.choice(ODD_WORDS) if chance.random() < 0.3 else new]
    return line


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "seed"), [(QUICK * 2, 1), pytest.param(MANY, 2, marks=pytest.mark.stress)])
def test_any_arguments_are_read_or_refused_in_a_line(
    count: int,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """As far as the request that they make; what comes of it is looked at by `test_wrong_input.py`."""
    parser, chance = command_line._parser(), random.Random(seed)
    monkeypatch.setattr(command_line, "_parser", lambda: parser)

    def requests(args: argparse.Namespace, _: object) -> list[str]:
        if hasattr(args, "layers"):
            options.chosen_layers(args.layers)
        if hasattr(args, "tokens"):
            options.requests_of(args) if hasattr(args, "models") else options.request_of(args)
        return []

    parse_args = parser.parse_args

    def parsed(given: list[str]) -> argparse.Namespace:
        args = parse_args(given)
        args.command = requests
        return args

    monkeypatch.setattr(parser, "parse_args", parsed)
    written = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)  # as a terminal's
    monkeypatch.setattr(sys, "stderr", written)
    for _ in range(count):
        line = odd_line(chance)
        began = time.process_time()
        try:
            status: Any = command_line.main(line)
        except SystemExit as ended:
            status = ended.code
        said = written.buffer.getvalue()
        written.buffer.truncate(0)
        assert status in (0, command_line.WRONG_INPUT), line
        assert b"Traceback" not in said, line
        assert time.process_time() - began < SECONDS, line
    record_property("trials", count)
