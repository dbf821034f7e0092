"""The files of a model's folder: which count, what they hold, and their fingerprint. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from kis_core.errors import KisError

WEIGHTS = "*.safetensors"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files: which tensor is in which


class ModelError(KisError):
    """A model that cannot be had. The message says what was found and what to do."""


class NotHere(ModelError):
    """A model that is not on this machine, and was not to be downloaded."""


class Gated(ModelError):
    """A model whose licence has to be accepted first.

    Attributes:
        page: where on the Hub.
    """

    def __init__(self, name: str) -> None:
        self.page = f"https://huggingface.co/{name}"
        super().__init__(f"{name} is gated: accept its licence at {self.page}, run `hf auth login`, try again.")


def checked_folder(folder: Path) -> Path:
    """The folder itself, once it is seen to hold a configuration and safetensors weights.

    Raises:
        ModelError: it does not; other formats are not read, as they can run code.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json; a transformers model folder has one.")
    if not weight_files(folder):
        raise ModelError(
            f"{folder} holds no {WEIGHTS} weights. Other formats are not read, as they can run code; where you trust "
            f"the source, load it with transformers elsewhere, save_pretrained it to a folder, and give that folder."
        )
    absent = sorted(name for name in _indexed(folder) if not (folder / name).is_file())
    if absent and not (folder / SINGLE).is_file():
        raise NotHere(f"{folder} lacks {len(absent)} of its weight files, such as {absent[0]}; get them first.")
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder that transformers reads, sorted by name.

    That is one file of a known name, or those its index names: beside them may lie adapters, or the same weights once
    more, as in Mistral's folders. All there are, where it says neither.
    """
    found = sorted(folder.glob(WEIGHTS))
    for names in ({SINGLE}, _indexed(folder)):  # in transformers' order
        if read := [path for path in found if path.name in names]:
            return read
    return found


def _indexed(folder: Path) -> set[str]:
    """Names of the weight files that the index of a folder lists; none if there is no index, or a damaged one."""
    try:
        return set(map(str, json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def fingerprint(folder: Path) -> str:
    """SHA-256 over the configuration, tokenizer and weight files of a folder, by name and content."""
    digest = hashlib.sha256()
    parts = [*folder.glob("*.json"), *folder.glob("*.model"), *folder.glob("*.txt"), *weight_files(folder)]
    for path in sorted(parts):  # *.txt: older tokenizers keep their merges there
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.name}\0{content}\n".encode())
    return digest.hexdigest()


def parameters(folder: Path) -> int:
    """Number of stored parameters (tied weights once), from the safetensors headers."""
    return sum(_stored_numbers(path) for path in weight_files(folder))


def _stored_numbers(path: Path) -> int:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > size - 8:
            raise ModelError(f"{path} is damaged: its header claims {length:,} bytes in a file of {size:,}.")
        try:
            header = json.loads(stream.read(length))
            return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is damaged: its header is not that of a safetensors file.") from error
