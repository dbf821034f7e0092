"""The files of a model's folder: which count, what they hold, and their fingerprint. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kis_core.errors import KisError

FLOAT32_BYTES = 4


class ModelError(KisError):
    """A model that cannot be had. The message says what was found and what to do."""


def checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json; a transformers model folder has one.")
    if not weight_files(folder):
        raise ModelError(f"{folder} holds no *.safetensors weights. Other formats are not read, as they can run code.")
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def fingerprint(folder: Path) -> str:
    """SHA-256 over the configuration, tokenizer and weight files of a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.model"), *weight_files(folder)]):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.name}\0{content}\n".encode())
    return digest.hexdigest()


def float32_bytes(folder: Path) -> int:
    """Memory that the weights take in float32, counted from the safetensors headers before anything is loaded."""
    total = 0
    for path in weight_files(folder):
        for tensor in _header(path).values():
            count = 1
            for side in tensor["shape"]:
                count *= side
            total += count * FLOAT32_BYTES
    return total


def parameters(folder: Path) -> int:
    """Number of stored parameters (tied weights once), from the safetensors headers."""
    return float32_bytes(folder) // FLOAT32_BYTES


def _header(path: Path) -> dict[str, dict]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > size - 8:
            raise ModelError(f"{path} is damaged: its header claims {length:,} bytes in a file of {size:,}.")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise ModelError(f"{path} is damaged: its header is not JSON.") from error
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
