"""The files of a model's folder: what counts, what is refused, and the fingerprint."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kis_core.models.files import ModelError, checked_folder, fingerprint, parameters


def test_a_folder_without_safetensors_is_refused(folder: Path) -> None:
    assert checked_folder(folder) == folder
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors weights. Other formats are not read"):
        checked_folder(folder)


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        checked_folder(folder)


def test_parameters_are_counted_over_all_files_whatever_their_dtype(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4)}, tmp_path / "one.safetensors", metadata={"format": "pt"})
    save_file({"b": torch.zeros(5, dtype=torch.float16), "c": torch.zeros(())}, tmp_path / "two.safetensors")
    assert parameters(tmp_path) == 12 + 5 + 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05\x00",
        struct.pack("<Q", 10**12),
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"\xff\xfe",
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 9) + b'{"a": {}}',
        struct.pack("<Q", 22) + b'{"a": {"shape":["x"]}}',
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_damaged_header_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        parameters(folder)


@pytest.mark.parametrize("part", ["config.json", "tokenizer.json", "model.safetensors", "merges.txt", "spm.model"])
def test_the_fingerprint_follows_every_part(folder: Path, part: str) -> None:
    before = fingerprint(folder)
    with (folder / part).open("ab") as stream:
        stream.write(b" ")
    assert fingerprint(folder) != before


def test_the_fingerprint_follows_names_but_not_places_times_or_notes(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    (folder / "README.md").write_text("a note")
    (folder / "config.json").touch()
    moved = folder.rename(tmp_path / "elsewhere")
    assert fingerprint(moved) == before
    (moved / "model.safetensors").rename(moved / "other.safetensors")
    assert fingerprint(moved) != before
