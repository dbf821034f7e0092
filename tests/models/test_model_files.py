"""The files of a model's folder: what counts, what is refused, the fingerprint, and what its configuration tells."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from kis_core.analysis import pipeline, resolve
from kis_core.models import catalog, describe, loading
from kis_core.models.describe import described
from kis_core.models.files import INDEX, ModelError, ModelFiles, NotHere
from kis_core.request import Request
from kis_core.store.store import Store
from tests import tiny
from tests.models.test_catalog import HOSTILE_NAMES


def test_a_folder_without_safetensors_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert ModelFiles(folder).checked() == ModelFiles(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors weights. Other formats are not read"):
        ModelFiles(folder).checked()


def test_parameters_are_counted_over_all_files_whatever_their_dtype(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4)}, tmp_path / "one.safetensors", metadata={"format": "pt"})
    save_file({"b": torch.zeros(5, dtype=torch.float16), "c": torch.zeros(())}, tmp_path / "two.safetensors")
    assert ModelFiles(tmp_path).parameters() == 12 + 5 + 1


DAMAGED = (
    *(b"", b"\x05\x00", struct.pack("<Q", 10**12), struct.pack("<Q", 2**64 - 1) + b"{}"),
    *(struct.pack("<Q", len(text)) + text for text in (b"[]", b"\xff\xfe", b'{"a": {}}', b'{"a": {"shape":["x"]}}')),
    struct.pack("<Q", 200_000) + b"[" * 200_000,
)


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:24]))
def test_a_damaged_header_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        ModelFiles(folder).parameters()


def test_the_fingerprint_follows_parts_and_names_but_not_places_times_or_notes(folder: Path, tmp_path: Path) -> None:
    fingerprints = [ModelFiles(folder).fingerprint()]
    for part in ("config.json", "tokenizer.json", "model.safetensors", "merges.txt", "spm.model"):
        with (folder / part).open("ab") as stream:
            stream.write(b" ")
        fingerprints.append(before := ModelFiles(folder).fingerprint())
    assert len(set(fingerprints)) == 6
    (folder / "README.md").write_text("a note")
    (folder / "config.json").touch()
    moved = folder.rename(tmp_path / "elsewhere")
    assert ModelFiles(moved).fingerprint() == before
    (moved / "model.safetensors").rename(moved / "other.safetensors")
    assert ModelFiles(moved).fingerprint() != before


def indexed(folder: Path, place: str) -> Path:
    """The folder, its weights moved to a place that its index names; gives the file."""
    moved = folder / place
    moved.parent.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").rename(moved)
    with moved.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    shards = dict.fromkeys(header.keys() - {"__metadata__"}, place)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return moved


class TestIndexedWeights:
    """An index may name weights wherever they are in the folder, and nowhere else."""

    def test_in_a_subfolder_they_count_are_loaded_and_their_change_is_noticed(self, folder: Path, store: Store) -> None:
        whole, numbers = loading.load(ModelFiles(folder), device="cpu").digest(), ModelFiles(folder).parameters()
        weights = indexed(folder, "deep/down/part.safetensors")
        assert ModelFiles(folder).checked() == ModelFiles(folder)
        assert ModelFiles(folder).weights() == [weights]
        assert ModelFiles(folder).parameters() == numbers
        assert loading.load(ModelFiles(folder), device="cpu").digest() == whole
        request = Request(model=str(folder), facts="builtin", tokens=100)
        before = pipeline.resolve(request, store)
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1  # of the last number
        weights.write_bytes(content)
        after = pipeline.resolve(request, store)
        assert after.weights == ModelFiles(folder).fingerprint() != before.weights
        assert after.key != before.key

    def test_a_file_that_a_configuration_names_is_the_one_that_is_read(self, folder: Path) -> None:
        other = tiny.model("GPT-2", seed=1)
        save_file(
            {name: weight.clone() for name, weight in other.model.state_dict().items() if name != "lm_head.weight"},
            folder / "other.safetensors",
            metadata={"format": "pt"},
        )
        first = ModelFiles(folder).fingerprint()
        configured(folder, transformers_weights="other.safetensors")
        assert [path.name for path in ModelFiles(folder).weights()] == ["other.safetensors"]
        assert loading.load(ModelFiles(folder), device="cpu").digest() == other.digest()
        assert ModelFiles(folder).fingerprint() != first

    @pytest.mark.parametrize(
        "name", ["../x.safetensors", "/x.safetensors", "..\\x.safetensors", "x\0.safetensors", "x.bin"]
    )
    @pytest.mark.parametrize("where", ["index", "configuration"])
    def test_names_that_lead_out_of_the_folder_are_refused(self, name: str, where: str, folder: Path) -> None:
        (folder.parent / "x.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        if where == "index":
            (folder / "model.safetensors").unlink()
            (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
        else:
            configured(folder, transformers_weights=name)
        for read in (ModelFiles.checked, ModelFiles.weights, ModelFiles.fingerprint, loading.load):
            with pytest.raises(ModelError, match=r"names weights at .*only \*\.safetensors files in the folder itself"):
                read(ModelFiles(folder))

    def test_links_are_followed_as_in_the_cache_of_the_hub(self, folder: Path, store: Store) -> None:
        blob = folder.parent / "blobs" / "0123"
        blob.parent.mkdir()
        (folder / "model.safetensors").rename(blob)
        (folder / "model.safetensors").symlink_to("../blobs/0123")
        before = resolve.weights_fingerprint(ModelFiles(folder).checked(), store)
        assert before == ModelFiles(folder).fingerprint()
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.write_bytes(content)
        assert resolve.weights_fingerprint(ModelFiles(folder), store) != before

    def test_a_pipe_is_no_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        os.mkfifo(folder / "model.safetensors")
        with pytest.raises(ModelError, match="holds no"):
            ModelFiles(folder).checked()


BITS = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
PACKED = (
    ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"} | BITS}, "bitsandbytes, 4 bits"),
    ("config.json", {"quantization_config": {"load_in_8bit": True, "load_in_4bit": False}}, "bitsandbytes, 8 bits"),
    ("config.json", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
    ("config.json", {"quantization_config": {}}, "a method it does not name"),
    ("config.json", {"text_config": {"quantization_config": {"quant_method": "gptq", "bits": 8}}}, "gptq, 8 bits"),
    ("quantize_config.json", {"bits": 4, "desc_act": True}, "gptq, 4 bits"),
    ("quant_config.json", {"w_bit": 4, "zero_point": True}, "awq, 4 bits"),
)


class TestPacked:
    """Quantised weights and adapters are refused from their configuration alone, wherever a folder comes in."""

    @pytest.fixture(params=[ModelFiles.checked, loading.load, lambda files: described(str(files.path))])
    def read(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("transformers was asked")

        monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
        return lambda folder: request.param(ModelFiles(folder))

    def test_by_name_and_with_the_way_out(self, folder: Path, read: Callable[[Path], object]) -> None:
        whole = (folder / "config.json").read_text()
        for file, content, method in PACKED:
            (folder / "config.json").write_text(whole)
            merged = json.loads(whole) | content if file == "config.json" else content
            (folder / file).write_text(json.dumps(merged))
            with pytest.raises(ModelError, match=rf"quantised by {method}: .*unquantised model; .*dequantize\(\)"):
                read(folder)
            (folder / file).unlink()

    @pytest.mark.parametrize("whole", [False, True])
    def test_an_adapter_is_to_be_merged_first(self, whole: bool, folder: Path, read: Callable[[Path], object]) -> None:
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "gpt2"}')
        (folder / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        if not whole:
            (folder / "config.json").unlink()
            (folder / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"an adapter of 'gpt2'.* Merge it first") as caught:
            read(folder)
        assert ("or remove adapter_config.json" in str(caught.value)) == whole


def configured(folder: Path, **changes: Any) -> Path:
    """The folder, its configuration changed; None takes a field away."""
    path = folder / "config.json"
    fields = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}), "utf-8")
    return folder


def test_read_from_the_hub_without_its_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotHere):
        described("someone/never-seen", download=False)
    assert described("openai-community/gpt2") is catalog.find("gpt2"), "what the catalogue knows is not read"
    (folder / "model.safetensors").write_bytes(b"no weights")
    asked: list[tuple[Any, ...]] = []
    for field, stored, computed in (
        *(("dtype", "bfloat16", "bfloat16"), ("torch_dtype", "float16", "float16")),
        *(("dtype", None, "float32"), ("dtype", "float64", "float32")),
    ):

        def fetch(*where: Any, changes: dict[str, Any], **how: Any) -> Path:
            asked.append((*where, how))
            return configured(folder, **changes) / "config.json"

        changes = {"dtype": None, "torch_dtype": None, field: stored}
        monkeypatch.setattr(describe, "hub_configuration", partial(fetch, changes=changes))
        entry = described("someone/tiny-gpt2", revision="v1", download=False)
        assert asked[-1] == ("someone/tiny-gpt2", "v1", {"download": False})
        assert (entry.name, entry.source, entry.files, entry.revision) == ("someone/tiny-gpt2",) * 2 + (None, "v1")
        assert entry.dtype == computed
        assert entry.download_bytes == entry.parameters * (4 if computed == "float32" else 2)


def test_more_layers_than_any_model_has_are_refused_at_once(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"n_layer": 10**6}
    (folder / "config.json").write_text(json.dumps(config))
    for use in (lambda: described(str(folder)), lambda: loading.load(ModelFiles(folder), device="cpu")):
        with pytest.raises(ModelError, match="tells of 1,000,000 layers; at most 1,000 are read"):
            use()


def test_a_folder_goes_by_its_whole_path(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    names = {described(name).name for name in ("gpt2/", "./gpt2", f"{folder}/", "link") if name != "gpt2"}
    assert names == {str(folder.resolve())}


def test_a_damaged_or_missing_configuration_is_refused(folder: Path) -> None:
    for content in (b"", b"[]", b"\xff\xfe\x00", b"{}", b"[" * 100_000):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(ModelError):
            described(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        described(str(folder))


def test_no_code_of_a_folder_is_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('run')\n")
    mapped = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    with pytest.raises(ModelError):
        described(str(configured(folder, model_type="evil", auto_map=mapped)))
    assert described(str(configured(folder, model_type="gpt2", auto_map=mapped))).layers == 3, "what is known is known"


def test_hostile_names_are_refused_or_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: Any, **__: Any) -> Path:
        assert not any(mark in name for mark in ("..", "~", "$", "\\", "\0", " "))
        raise NotHere("no")

    monkeypatch.setattr(describe, "hub_configuration", absent)
    monkeypatch.chdir(tmp_path)
    for name in HOSTILE_NAMES:
        with pytest.raises(ModelError) as caught:
            described(name)
        assert len(str(caught.value)) < 500
