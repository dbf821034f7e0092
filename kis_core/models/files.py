"""What a model is on disk: its files, which of them count, what they hold, their fingerprint. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kis_core.errors import KisError

WEIGHTS = "*.safetensors"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files: which tensor is in which
INDEX_ENDING = ".safetensors.index.json"
CONFIGURATION = "config.json"
ADAPTER = "adapter_config.json"  # of LoRA and its kin: a change of another model's weights
PACKED = ("quantization_config", "compression_config")  # fields of a configuration whose weights are packed
MOST_NUMBERS = 10**15  # of one file: a thousand times those of the largest models
PACKED_BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq"}  # where their older tools say so instead


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


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk, here as a transformers folder holds it; `loading.load` brings it into memory.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Of the folder, for messages."""
        return self.path.name

    @property
    def commit(self) -> str | None:
        """The commit of a snapshot in the Hub's cache, which its folder is named after; None of any other folder."""
        return self.path.name if self.path.parent.name == "snapshots" else None

    @property
    def quantisation(self) -> str:
        """The format of quantised weights, which are unpacked when the model is loaded; empty: there are none."""
        return ""

    @property
    def source(self) -> tuple[Path, dict[str, Any]]:
        """What transformers' `from_pretrained` takes: a folder, and options."""
        return self.path, {}

    @contextmanager
    def read_once(self) -> Iterator[None]:
        """A block in which transformers reads these files several times."""
        yield

    @property
    def configuration(self) -> dict[str, Any]:
        """What config.json holds; nothing where it is missing or damaged."""
        return _json(self.path / CONFIGURATION)

    def checked(self) -> ModelFiles:
        """These files, once they are seen to hold a configuration and safetensors weights that can be read as they are.

        Raises:
            ModelError: they do not; other formats are not read, as they can run code.
            NotHere: some of the weight files are missing.
        """
        folder = self.path
        self.refuse_packed()
        if not (folder / CONFIGURATION).is_file():
            raise ModelError(f"{folder} holds no config.json; a transformers model folder has one.")
        if not self.weights():
            raise ModelError(
                f"{folder} holds no {WEIGHTS} weights. Other formats are not read, as they can run code; where you "
                f"trust the source, load it with transformers elsewhere, save_pretrained it to a folder, and give that "
                f"folder."
            )
        absent = sorted(name for name in _named(folder) if not (folder / name).is_file())
        if absent:
            raise NotHere(f"{folder} lacks {len(absent)} of its weight files, such as {absent[0]}; get them first.")
        return self

    def refuse_packed(self) -> None:
        """Refuse weights that are not plain numbers, from the files that say so: no library has to be there for it.

        With one, transformers would unpack them behind the scenes, into other shapes; without, it fails in many ways.

        Raises:
            ModelError: the weights are quantised, or there is an adapter to add to them; says what to do.
        """
        folder = self.path
        if (folder / ADAPTER).is_file():
            base = _json(folder / ADAPTER).get("base_model_name_or_path")
            of = f" of {base!r:.100}" if isinstance(base, str) else ""
            beside = (folder / CONFIGURATION).is_file() and self.weights()
            way_out = f", or remove {ADAPTER} to read the weights without it" if beside else ""
            raise ModelError(
                f"{folder} holds an adapter{of} ({ADAPTER}), which is not a model by itself. Merge it first: load both "
                f"with peft elsewhere, merge_and_unload(), save_pretrained to a folder, and give that folder{way_out}."
            )
        if method := _packing(folder):
            raise ModelError(
                f"{folder} holds weights quantised by {method}: packed numbers, of which no key can be read and which "
                f"no edit can change. Take the repository of the unquantised model; or load this one with transformers "
                f"elsewhere, dequantize() it, save_pretrained it to a folder, and give that folder."
            )

    def weights(self) -> list[Path]:
        """The safetensors files that transformers reads, sorted by name.

        That is one file of a known name, or those its index names, wherever they are in the folder: beside them may lie
        the same weights once more, as in Mistral's folders. All there are, where nothing says which.

        Raises:
            ModelError: the index names a file outside of the folder, or one of another format.
        """
        named = sorted(path for name in _named(self.path) if (path := self.path / name).is_file())
        return named or sorted(path for path in self.path.glob(WEIGHTS) if path.is_file())

    def parts(self) -> dict[str, Path]:
        """The files that make up the model, configuration, tokenizer and weights, by their name in the folder."""
        beside = [path for kind in ("*.json", "*.model", "*.txt") for path in self.path.glob(kind) if path.is_file()]
        files = sorted({*beside, *self.weights()})  # *.txt: older tokenizers keep their merges there
        return {path.relative_to(self.path).as_posix(): path for path in files}

    def fingerprint(self) -> str:
        """SHA-256 over the `parts`, by name and content."""
        digest = hashlib.sha256()
        for name, path in self.parts().items():
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{name}\0{content}\n".encode())
        return digest.hexdigest()

    def parameters(self) -> int:
        """Number of stored parameters (tied weights once), from the safetensors headers."""
        return sum(map(_stored_numbers, self.weights()))


def _packing(folder: Path) -> str:
    """What the weights of a folder are quantised by, as its files name it; empty where they are not."""
    config = _json(folder / CONFIGURATION)
    for part in (config, config.get("text_config")):
        for field in PACKED:
            if (scheme := part.get(field) if isinstance(part, dict) else None) is not None:
                return _method(scheme if isinstance(scheme, dict) else {})
    beside = next((name for name in PACKED_BESIDE if (folder / name).is_file()), None)
    return _method(_json(folder / beside) | {"quant_method": PACKED_BESIDE[beside]}) if beside else ""


def _method(scheme: dict[str, Any]) -> str:
    """Such as "bitsandbytes, 4 bits"."""
    by_flag = next((bits for bits in (4, 8) if scheme.get(f"load_in_{bits}bit")), None)
    method = scheme.get("quant_method") or ("bitsandbytes" if by_flag else "a method it does not name")
    bits = scheme.get("bits") or scheme.get("w_bit") or by_flag
    return f"{method}"[:60] + (f", {bits} bits" if isinstance(bits, int) else "")


def _named(folder: Path) -> set[str]:
    """The weight files that transformers looks for, relative to the folder, in its order; none if nothing names any."""
    index = INDEX
    if isinstance(name := _json(folder / CONFIGURATION).get("transformers_weights"), str):
        if not name.endswith(INDEX_ENDING):
            return {_inside(folder, name, CONFIGURATION)}
        index = _inside(folder, name, CONFIGURATION, ending=INDEX_ENDING)
    elif (folder / SINGLE).is_file():
        return {SINGLE}
    shards = _json(folder / index).get("weight_map")
    names = set(map(str, shards.values())) if isinstance(shards, dict) else set()
    return {_inside(folder, name, index) for name in names}


def _inside(folder: Path, name: str, where: str, *, ending: str = ".safetensors") -> str:
    """The name of a file, once it is seen to be of the right kind and not to lead out of the folder.

    What a name says is looked at, not where links lead: in the Hub's cache every file is a link, and whoever made a
    link on this machine meant it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not name.endswith(ending):
        raise ModelError(
            f"{folder / where} names weights at {name!r:.100}: only *{ending} files in the folder itself are read. Put "
            f"them there and name them so, or get the model anew."
        )
    return path.as_posix()


def _json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is not there, damaged, or holds something else than an object."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _stored_numbers(path: Path) -> int:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > size - 8:
            raise ModelError(f"{path} is damaged: its header claims {length:,} bytes in a file of {size:,}.")
        try:
            header = json.loads(stream.read(length))
            shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
            if not all(type(length) is int and length >= 0 for shape in shapes for length in shape):
                raise ValueError("no shape")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is damaged: its header is not that of a safetensors file.") from error
    if (numbers := sum(map(math.prod, shapes))) > MOST_NUMBERS:
        raise ModelError(f"{path} is damaged: its header claims more numbers than any model has.")
    return numbers
