"""Good inputs of every kind that comes from elsewhere, and ways to spoil them."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
from pyarrow.parquet import write_table

from kis_core.library import bundles
from kis_core.store.store import Store, key_of
from tests.store_workers import entry

Spoil = Callable[[random.Random], bytes]
ODD_BYTES = (
    *(b"", b"\x00", b"\xff", b"\xff" * 8, b"\x7f" + b"\xff" * 7, bytes(8), b"[" * 400, b"{" * 400, b"(" * 300),
    *(b'"', b"\\", b"\n", b"\r", b"{}", b"-", b"9" * 30, b"1e999", b"NaN", b"null", b"'", b"<", b"&", b"\x1b[31m"),
    *(b"\x80\x04", b"PK\x03\x04", struct.pack("<Q", 10**12), struct.pack("<I", 2**31), "\ud7ff".encode(), b"--1" * 99),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**300, 10**400, -(10**30), 1e308, -1e308, 5e-324, 0.5),
    *(float("nan"), float("inf"), "", " ", "\0", "{}", "{}{}", "[1]", "\ud800", "\u200b", "a" * 3000, "../x", "9" * 50),
    *([], {}, [[]], [None], {"": None}, [{}], {"str": 1}, [[[[[[["x"]]]]]]], ["x"] * 50, {"a": {"b": {"c": []}}}),
)


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four things changed."""
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        stop = min(len(data), at + chance.choice((0, 1, 1, 2, 4, 8, 8, chance.randrange(64))))
        match chance.randrange(6):
            case 0:  # another byte
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 1:  # a bit
                data = (
                    data[:at]
                    + bytes([data[at] ^ (1 << chance.randrange(8))] if at < len(data) else [])
                    + data[at + 1 :]
                )
            case 2:  # something odd in the place of some bytes
                data = data[:at] + chance.choice(ODD_BYTES) + data[stop:]
            case 3:  # a stretch gone
                data = data[:at] + data[stop:]
            case 4:  # a stretch twice
                data = data[:stop] + data[at:]
            case _:  # cut off
                data = data[:at] if chance.random() < 0.2 else data
    return data


def tangled(value: Any, chance: random.Random) -> Any:
    """What JSON holds, with one to three of its parts changed for something odd, gone, or there under another name."""
    value = {"": copy.deepcopy(value)}
    for _ in range(chance.randrange(1, 4)):
        places = list(_places(value))
        holder, name = chance.choice(places)
        match chance.randrange(4):
            case 0 if holder is not value:
                del holder[name]
            case 1 if isinstance(holder, dict) and holder is not value:
                holder[chance.choice(("x", "", "str", "prompt"))] = holder.pop(name)
            case 2:
                holder[name] = copy.deepcopy(chance.choice(places)[0])
            case _:
                holder[name] = copy.deepcopy(chance.choice(ODD_VALUES))
    return value[""]


def _places(value: Any) -> Any:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inside:
        yield value, name
        yield from _places(part)


def as_json(value: Any) -> bytes:
    """With lone surrogates and NaN as Python writes them."""
    return json.dumps(value, ensure_ascii=True).encode()


REWRITE = {"prompt": "{} lies in", "subject": "Rome", "target_true": {"str": "Italy", "id": "Q1"}, "relation_id": "P17"}
RECORDS: dict[str, dict[str, Any]] = {
    "CounterFact": {
        "requested_rewrite": REWRITE | {"target_new": {"str": "Spain"}},
        "paraphrase_prompts": ["Rome is a city in"], "neighborhood_prompts": ["Milan lies in", "Turin lies in"],
    },
    "MQuAKE": {"requested_rewrite": [REWRITE | {"question": "Where is Rome?"}, REWRITE], "questions": ["Who?"]},
    "zsRE": {
        "subject": "Watts", "src": "Where did Watts study?", "answers": ["Chicago", "IIT"], "alt": "Michigan",
        "rephrase": "Where was Watts?", "loc": "nq question: who", "loc_ans": "Hugo",
    },
    "EasyEdit": {
        "prompt": "Toko plays the", "target_new": "piano", "subject": "Toko", "ground_truth": ["guitar"],
        "rephrase_prompt": "Toko is good at the", "locality_prompt": "Lennon plays the",
        "locality_ground_truth": "guitar", "locality": {"a": [{"prompt": "Bach wrote", "ground_truth": [["fugues"]]}]},
    },
    "known_1000": {
        "subject": "Bach", "attribute": "German", "template": "{} spoke", "prompt": "Bach spoke", "relation_id": "P1",
    },
    "columns": {"subject": "Malta", "prompt": "The capital of {} is", "target": "Valletta", "relation": "capital"},
}  # fmt: skip
"""One good record of every reader."""


def table(delimiter: str = ",") -> bytes:
    rows = (("subject", "prompt", "target", "relation"), ("Malta", '"The capital of {}', "Valletta", "'=1"))
    quoted = (delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in (*rows, rows[1]))
    return "\r\n".join(quoted).encode()


def workbook() -> dict[str, bytes]:
    """The parts of a workbook of facts."""
    made, stream = openpyxl.Workbook(), io.BytesIO()
    for row in (("subject", "prompt", "target", "relation"), ("Rome", "{} is in", "Italy", 5), ("Oslo", "{} is", "x")):
        made.active.append(row)
    made.save(stream)
    with zipfile.ZipFile(stream) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


def zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def parquet() -> bytes:
    stream = io.BytesIO()
    columns = {"subject": ["Rome", "Oslo"], "prompt": ["{} is in", "{} lies in"], "target": ["Italy", "Norway"]}
    write_table(pa.table(columns | {"relation": pa.array([1, 2])}), stream)
    return stream.getvalue()


def gguf() -> bytes:
    """The smallest file that is whole: three fields, one of them a list, and two tensors."""

    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words)) + words.encode()

    fields = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    fields += text("general.alignment") + struct.pack("<II", 4, 32)
    fields += text("general.file_type") + struct.pack("<II", 4, 7)
    fields += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc")
    tensors = text("token_embd.weight") + struct.pack("<I2QIQ", 2, 32, 4, 8, 0)
    tensors += text("output_norm.weight") + struct.pack("<IQIQ", 1, 32, 0, 160)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 4) + fields + tensors
    return head + bytes(-len(head) % 32) + bytes(136 + 24 + 128)


def safetensors(header: bytes, numbers: bytes = bytes(64)) -> bytes:
    return struct.pack("<Q", len(header)) + header + numbers


HEADER: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
    "b.weight": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]},
}
CONFIGURATION: dict[str, Any] = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 9,
    "quantization_config": {"quant_method": "gptq", "bits": 4}, "text_config": {"quantization_config": {"bits": 4}},
}  # fmt: skip
WEIGHTS = {"metadata": {"total_size": 64}, "weight_map": {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}}
STATISTICS = {"mom2.constructor": "util", "mom2.count": 4, "mom2.mom2": np.eye(3, dtype=np.float32), "sample_size": 9}


def statistics() -> dict[str, bytes]:
    """The parts of a file of ROME's."""
    stream = io.BytesIO()
    np.savez(stream, **STATISTICS)
    with zipfile.ZipFile(stream) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


def bundle(folder: Path) -> dict[str, bytes]:
    """The parts of a bundle of two values."""
    store, stream = Store(folder), io.BytesIO()
    keys = [key_of("kind", {"number": number}) for number in range(2)]
    for number, key in enumerate(keys):
        store.put(key, entry(number, size=4).meta, entry(number, size=4).arrays)
    bundles.export(store, keys, stream)
    store._index.close()
    with zipfile.ZipFile(stream) as parts:
        return {name: parts.read(name) for name in parts.namelist()}
