"""A GGUF file as a model: the same numbers as a folder of its unpacked weights, and a clear no to what is none."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from kis_core import facts as fact_sets
from kis_core.analysis import pipeline, resolve
from kis_core.models import catalog, loading
from kis_core.models.describe import described
from kis_core.models.files import ModelError, NotHere
from kis_core.models.gguf import GgufFile
from kis_core.request import Request
from kis_core.scoring.log_odds import read as read_answers
from kis_core.scoring.log_odds import tokenize_sentences
from kis_core.store.store import Store
from tests.models import gguf_files

EMBEDDING = struct.pack("<I2Q", 2, 64, 3000)  # dimensions of that tensor, which its format follows
EXACT = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and a file of the same weights."""
    root = tmp_path_factory.mktemp("gguf")
    folder, file = root / "folder", root / "small.Q8_0.gguf"
    gguf_files.write(folder, file)
    return folder, file


def test_keys_c_p_and_log_odds_are_those_of_the_unpacked_folder(both: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = both
    facts, text = tmp_path / "facts.csv", tmp_path / "text.txt"
    chosen = fact_sets.builtin().facts[:6]
    rows = ["subject,prompt,target", *(f"{fact.subject},{fact.prompt},{fact.target}" for fact in chosen)]
    facts.write_text("\n".join(rows))
    text.write_text("\n".join(fact.text + fact.target for fact in fact_sets.builtin().facts))
    store = Store(tmp_path / "cache")
    of_folder, of_file = (
        pipeline.run(Request(str(path), str(facts), str(text), 400), store, device="cpu") for path in both
    )
    assert (of_file.provenance["quantisation"], of_folder.provenance["quantisation"]) == ("Q8_0", "")
    for name in ("p", "whitening_cosine", "activation_cosine"):
        np.testing.assert_allclose(getattr(of_file, name), getattr(of_folder, name), **EXACT)
    for layer in (0, 1):
        moments = [store.get(resolve.second_moment_key(one, layer)) for one in (of_file, of_folder)]
        for name, values in moments[0].arrays.items():
            np.testing.assert_allclose(values, moments[1].arrays[name], **EXACT)
    odds = []
    for path in (folder, file):
        loaded = loading.load(catalog.locate(str(path)), device="cpu")
        odds.append(read_answers(loaded, tokenize_sentences(loaded.tokenizer, chosen, context=loaded.context)).log_odds)
    np.testing.assert_allclose(*odds, **EXACT)


def test_it_is_described_and_counted_and_known_by_its_bytes(both: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = both
    entry, whole = described(str(file)), described(str(folder))
    sizes = ("parameters", "layers", "width", "mlp_width", "context")
    assert [getattr(entry, size) for size in sizes] == [getattr(whole, size) for size in sizes]
    assert (entry.quantisation, entry.files) == ("Q8_0", GgufFile(file))
    assert GgufFile(file).parameters() == entry.parameters
    renamed = tmp_path / "other name.gguf"
    renamed.write_bytes(file.read_bytes())
    assert GgufFile(renamed).fingerprint() == GgufFile(file).fingerprint()
    with renamed.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x07")
    assert GgufFile(renamed).fingerprint() != GgufFile(file).fingerprint()


def test_a_file_in_a_package_is_found_without_running_the_package(
    both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "weights_of_someone"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('code of the package was run')")
    (package / "small.gguf").write_bytes(both[1].read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.locate("weights_of_someone/small.gguf") == GgufFile(package / "small.gguf")
    assert described("weights_of_someone/small.gguf").name == "weights_of_someone/small.gguf"
    (packaged, *_) = (entry for entry in catalog.hub() if entry.package)
    monkeypatch.setattr("kis_core.models.gguf.in_package", lambda _: None)
    with pytest.raises(NotHere, match=f"comes with the Python package {packaged.package}.*`make real`"):
        catalog.locate(packaged.name)


DAMAGED = {
    "is empty": lambda content: b"",
    "begins with other bytes": lambda content: b"GGML" + content[4:],
    "version 9": lambda content: content[:4] + struct.pack("<I", 9) + content[8:],
    "was cut short": lambda content: content[:-1],
    "breaks off": lambda content: content[:2000],
    "claims 1,000,000,000,000 entries": lambda content: content[:8] + struct.pack("<Q", 10**12) + content[16:],
    "does not add up": lambda content: content[:24] + struct.pack("<Q", 2**63) + content[32:],
    "holds no tensors": lambda content: content[:8] + struct.pack("<Q", 0) + content[16:],
    "format that is not known": lambda content: content.replace(EMBEDDING + b"\x08", EMBEDDING + b"\x63"),
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_a_damaged_file_is_refused_before_anyone_else_reads_it(
    both: tuple[Path, Path], tmp_path: Path, reason: str
) -> None:
    file = tmp_path / "damaged.gguf"
    file.write_bytes(DAMAGED[reason](both[1].read_bytes()))
    for use in (catalog.locate, described):
        with pytest.raises(ModelError, match=reason):
            use(str(file))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"architecture": "mpt"}, "architecture mpt is not supported yet"), ({"tokenizer": "rwkv"}, "tokenizer 'rwkv'")],
)
def test_what_transformers_cannot_read_is_said(tmp_path: Path, fields: dict[str, str], reason: str) -> None:
    file = tmp_path / "other.gguf"
    gguf_files.write(tmp_path / "folder", file, **fields)
    with pytest.raises(ModelError, match=f"(?s)transformers cannot load .*other.gguf.*{reason}"):
        loading.load(catalog.locate(str(file)), device="cpu")
