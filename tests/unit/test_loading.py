"""Loading: folders that are not what they say, and models too large for the memory."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    LlamaConfig,
)

from kis_core.models.architecture import UnsupportedArchitecture
from kis_core.models.files import ModelError, checked_folder, fingerprint, float32_bytes, parameters
from kis_core.models.loading import OVERHEAD, available_bytes, choose_device, load
from tests import tiny

TWO_GIGABYTES = 2 * 10**9
LLAMA_70B = LlamaConfig(
    vocab_size=32000, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
    num_key_value_heads=8,
)  # fmt: skip
LLAMA_70B_PARAMETERS = 68_976_648_192  # 2·32000·8192 + 80·(2·8192² + 2·8192·1024 + 3·8192·28672 + 2·8192) + 8192


def write_header(path: Path, header: object, data: bytes = b"") -> None:
    """A safetensors file with any header, true or not."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestFiles:
    def test_a_folder_without_safetensors_is_refused(self, folder: Path) -> None:
        assert checked_folder(folder) == folder
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"no \*\.safetensors weights. Other formats are not read"):
            checked_folder(folder)

    def test_a_folder_without_configuration_is_refused(self, folder: Path) -> None:
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"holds no config\.json"):
            checked_folder(folder)

    def test_parameters_are_counted_over_all_files_whatever_their_dtype(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(3, 4)}, tmp_path / "one.safetensors", metadata={"format": "pt"})
        save_file({"b": torch.zeros(5, dtype=torch.float16), "c": torch.zeros(())}, tmp_path / "two.safetensors")
        assert parameters(tmp_path) == 12 + 5 + 1
        assert float32_bytes(tmp_path) == 4 * 18

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
    def test_a_damaged_header_is_refused(self, folder: Path, content: bytes) -> None:
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
            parameters(folder)

    @pytest.mark.parametrize("part", ["config.json", "tokenizer.json", "model.safetensors", "merges.txt", "spm.model"])
    def test_the_fingerprint_follows_every_part(self, folder: Path, part: str) -> None:
        before = fingerprint(folder)
        with (folder / part).open("ab") as stream:
            stream.write(b" ")
        assert fingerprint(folder) != before

    def test_the_fingerprint_follows_names_but_not_places_times_or_notes(self, folder: Path, tmp_path: Path) -> None:
        before = fingerprint(folder)
        (folder / "README.md").write_text("a note")
        (folder / "config.json").touch()
        moved = folder.rename(tmp_path / "elsewhere")
        assert fingerprint(moved) == before
        (moved / "model.safetensors").rename(moved / "other.safetensors")
        assert fingerprint(moved) != before


class TestMemory:
    @pytest.fixture(autouse=True)
    def nothing_is_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("the weights were read")

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)

    def test_seventy_billion_parameters_are_refused_before_allocation(self, folder: Path) -> None:
        LLAMA_70B.save_pretrained(folder)
        shapes = {name: list(tensor.shape) for name, tensor in tiny.on_meta(LLAMA_70B).state_dict().items()}
        header = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
        write_header(folder / "model.safetensors", header)
        self.assert_refused(folder)

    def test_nor_does_a_small_file_hide_a_large_configuration(self, folder: Path) -> None:
        LLAMA_70B.save_pretrained(folder)
        self.assert_refused(folder)

    def test_nor_a_small_configuration_a_large_file(self, folder: Path) -> None:
        claim = {"dtype": "F32", "shape": [LLAMA_70B_PARAMETERS], "data_offsets": [0, 0]}
        write_header(folder / "model.safetensors", {"transformer.wte.weight": claim})
        self.assert_refused(folder)

    def assert_refused(self, folder: Path) -> None:
        needed = f"{int(4 * LLAMA_70B_PARAMETERS * OVERHEAD):,} bytes"
        with pytest.raises(ModelError, match=f"gpt2 needs about {needed} .*; 2,000,000,000 are free"):
            load(folder, device="cpu", memory=lambda: TWO_GIGABYTES)

    def test_the_limit_of_the_process_counts(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert available_bytes() > 100_000
        monkeypatch.setattr(resource, "getrlimit", lambda _: (100_000, resource.RLIM_INFINITY))
        assert available_bytes() == 100_000
        with pytest.raises(ModelError, match="100,000 are free"):
            load(folder, device="cpu")


class TestLoad:
    @pytest.mark.parametrize("name", tiny.ARCHITECTURES)
    def test_gives_the_saved_weights_ready_to_be_read(self, name: str, tmp_path: Path) -> None:
        original = tiny.model(name).model.state_dict()
        loaded = load(tiny.save(name, tmp_path / "model"), device="cpu")
        found = loaded.model.state_dict()
        assert found.keys() == original.keys()
        assert all(torch.equal(found[key], original[key]) for key in original)
        assert not loaded.model.training
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert (loaded.architecture.name, loaded.context, loaded.device.type) == (name, tiny.CONTEXT, "cpu")

    def test_half_precision_on_disk_becomes_float32(self, folder: Path) -> None:
        halves = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
        change_config(folder, dtype="float16")
        loaded = load(folder, device="cpu")
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
        assert torch.equal(loaded.model.transformer.wpe.weight, halves["transformer.wpe.weight"].float())

    def test_a_missing_tensor_is_refused_and_not_made_up(self, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights["transformer.h.1.mlp.c_proj.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks 1 of the model's tensors, such as transformer\.h\.1\.mlp\.c_proj"):
            load(folder, device="cpu")

    def test_a_tensor_of_another_shape_is_refused(self, folder: Path) -> None:
        change_config(folder, n_inner=48)
        name, shapes = r"transformer\.h\.0\.mlp\.c_fc\.bias", r"\(40,\) where its config\.json wants \(48,\)"
        with pytest.raises(ModelError, match=f"holds {name} with shape {shapes}"):
            load(folder, device="cpu")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: cut(folder / "model.safetensors", 0.5),
            lambda folder: cut(folder / "model.safetensors", 0.999),
            lambda folder: cut(folder / "config.json", 0.5),
            lambda folder: cut(folder / "tokenizer.json", 0.5),
            lambda folder: (folder / "config.json").write_text("[]"),
            lambda folder: (folder / "config.json").write_text("{}"),
            lambda folder: (folder / "tokenizer.json").write_text('{"added_tokens": [], "model": {"type": "Nope"}}'),
            lambda folder: change_config(folder, model_type="never heard of"),
            lambda folder: change_config(folder, n_layer=4),
            lambda folder: change_config(folder, n_layer="many"),
            lambda folder: change_config(folder, n_head=7),
        ],
        ids=range(11),
    )
    def test_a_damaged_folder_is_refused(self, folder: Path, damage: Callable[[Path], object]) -> None:
        damage(folder)
        with pytest.raises(ModelError, match=str(folder)):
            load(folder, device="cpu")

    def test_no_code_of_the_folder_runs(self, folder: Path, tmp_path: Path) -> None:
        for module in ("configuration_evil", "modeling_evil", "tokenization_evil"):
            (folder / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
        change_config(
            folder,
            model_type="evil",
            auto_map={"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
        )
        with pytest.raises(ModelError):
            load(folder, device="cpu")
        assert not (tmp_path / "ran").exists()

    def test_a_folder_without_tokenizer_is_refused(self, folder: Path) -> None:
        for path in folder.glob("tokenizer*"):
            path.unlink()
        with pytest.raises(ModelError, match="a tokenizer of 0 tokens where the model knows 3,000"):
            load(folder, device="cpu")

    def test_the_tokenizer_of_a_larger_model_is_refused(self, folder: Path) -> None:
        tiny.model("GPT-2", vocabulary=100).model.save_pretrained(folder)
        with pytest.raises(ModelError, match="a tokenizer of 3,000 tokens where the model knows 100"):
            load(folder, device="cpu")

    def test_an_unsupported_model_is_refused(self, folder: Path) -> None:
        config = BloomConfig(vocab_size=tiny.VOCABULARY, hidden_size=16, n_layer=2, n_head=2)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        with pytest.raises(UnsupportedArchitecture, match="'bloom'"):
            load(folder, device="cpu")

    def test_an_unknown_device_is_refused(self, folder: Path) -> None:
        with pytest.raises(ModelError, match=r"No device 'tpu'; there are auto, cpu, cuda, mps\."):
            load(folder, device="tpu")

    def test_a_device_this_machine_lacks_is_refused_and_auto_passes_it_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        for lacking in ("cuda", "mps"):
            with pytest.raises(ModelError, match=f"no {lacking} device; use --device auto or cpu"):
                choose_device(lacking)
        assert choose_device("auto").type == "cpu"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device("auto").type == "cuda"


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
