"""Loading: folders that are not what they say, and models too large for the memory."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PretrainedConfig

from kis_core import machine
from kis_core.covariance.passes import second_moments
from kis_core.machine import Device
from kis_core.models import loading
from kis_core.models.files import ModelError, ModelFiles
from kis_core.models.holder import LoadedModels
from kis_core.models.loaded import LoadedModel
from kis_core.models.loading import OVERHEAD, load
from kis_core.scoring import answers
from tests import tiny

TWO_GIGABYTES = 2 * 1024**3
AT_ONCE = 5  # seconds, for a refusal; seen 0.5
WIDTHS_70B = {"vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 28672, "num_key_value_heads": 8}
LLAMA_70B = LlamaConfig(num_hidden_layers=80, num_attention_heads=64, **WIDTHS_70B)
LLAMA_70B_PARAMETERS = 68_976_648_192  # 2·32000·8192 + 80·(2·8192² + 2·8192·1024 + 3·8192·28672 + 2·8192) + 8192


def write_header(path: Path, header: object, data: bytes = b"") -> None:
    """A safetensors file with any header, true or not."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestMemory:
    @pytest.fixture(autouse=True)
    def nothing_is_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("the weights were read")

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)

    @pytest.mark.parametrize("large", ["configuration", "file"])
    def test_seventy_billion_parameters_are_refused_before_allocation(self, folder: Path, large: str) -> None:
        """Whether the configuration or the file says that there are as many."""
        if large == "configuration":
            LLAMA_70B.save_pretrained(folder)
        else:
            claim = {"dtype": "F16", "shape": [LLAMA_70B_PARAMETERS], "data_offsets": [0, 0]}
            write_header(folder / "model.safetensors", {"transformer.wte.weight": claim})
        needed = f"{int(4 * LLAMA_70B_PARAMETERS * OVERHEAD):,} bytes"
        free = r"2,147,483,648 are free \(2\.15 GB\)\. Nothing here holds it in any precision: choose a smaller model"
        begun = perf_counter()
        with pytest.raises(ModelError, match=rf"gpt2 needs about {needed} \(331 GB\) .* in float32 on cpu; {free}"):
            load(ModelFiles(folder), device="cpu", memory=lambda: TWO_GIGABYTES)
        assert perf_counter() - begun < AT_ONCE

    def test_a_refusal_names_what_would_fit(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        numbers = sum(parameter.numel() for parameter in tiny.model("GPT-2").model.parameters())
        half = int(2 * numbers * OVERHEAD)
        with pytest.raises(ModelError, match=r"in float32 on cpu; .* In bfloat16 on cpu it takes \S+ GB and fits\."):
            load(ModelFiles(folder), device="cpu", memory=lambda: half)
        with pytest.raises(ModelError, match="Nothing here holds it in any precision"):
            load(ModelFiles(folder), device="cpu", dtype="bfloat16", memory=lambda: half - 1)
        with pytest.raises(ModelError, match="the weights were read"):
            load(ModelFiles(folder), device="cpu", dtype="bfloat16", memory=lambda: half)
        have(monkeypatch, gpu(0, 1000), CPU)
        with pytest.raises(ModelError, match=r"on cuda:0; 1,000 are free .* In float32 on cpu it takes \S+ GB"):
            load(ModelFiles(folder), device="cuda")


CPU = Device("cpu", "a processor", "cpu", 10**10, 10**10)


def gpu(index: int, free: int) -> Device:
    return Device(f"cuda:{index}", "a GPU", "cuda", 10**10, free)


def have(monkeypatch: pytest.MonkeyPatch, *devices: Device) -> None:
    """Let this machine have these devices."""
    monkeypatch.setattr(machine, "devices", lambda *_: devices)


class Placed(Exception):
    """Where the weights were to go."""


class TestPlaces:
    """Which device a model goes to, on machines that the tests do not have."""

    @pytest.fixture(autouse=True)
    def only_the_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def tell(*_: object, **asked: Any) -> None:
            raise Placed({name: asked[name] for name in ("device_map", "max_memory") if name in asked})

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", tell)

    def place(self, folder: Path, device: str) -> object:
        with pytest.raises(ModelError) as caught:
            load(ModelFiles(folder), device=device)
        assert isinstance(caught.value.__cause__, Placed)
        return caught.value.__cause__.args[0]

    def test_weights_go_straight_to_a_gpu(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        have(monkeypatch, gpu(1, 10**10), gpu(0, 10**9), Device("all", "2 GPUs", "cuda", 2 * 10**10, 10**10), CPU)
        assert self.place(folder, "auto") == {"device_map": {"": "cuda:1"}}
        assert self.place(folder, "cuda") == self.place(folder, "cuda:0") == {"device_map": {"": "cuda:0"}}
        assert self.place(folder, "cpu") == {}
        assert self.place(folder, "all") == {"device_map": "auto", "max_memory": {1: 10**10, 0: 10**9}}

    def test_auto_passes_over_what_is_too_small(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        have(monkeypatch, gpu(0, 1000), CPU)
        assert self.place(folder, "auto") == {}
        together = Device("all", "2 GPUs", "cuda", 2 * 10**6, 2 * 10**6)
        have(monkeypatch, gpu(0, 10**5), gpu(1, 10**5), together, CPU)
        assert self.place(folder, "auto") == {"device_map": "auto", "max_memory": {0: 10**5, 1: 10**5}}
        have(monkeypatch, gpu(0, 10**10), CPU)
        assert self.place(folder, "all") == {"device_map": {"": "cuda:0"}}, "all of one is that one"


def test_spread_over_devices_it_gives_what_one_gives(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`device_map="auto"` for real, on the only device there is; layers that no GPU holds are refused."""
    monkeypatch.setattr(loading, "_placement", lambda *_: {"device_map": "auto"})
    have(monkeypatch, Device("all", "all there is", "cpu", 10**10, 10**10))
    spread, alone = load(ModelFiles(folder), device="all"), tiny.model("GPT-2")
    assert spread.device == torch.device("cpu")
    assert torch.equal(*(answers.next_token_logits(one, [[5, 6, 7], [8]]) for one in (spread, alone)))
    have(monkeypatch, Device("all", "2 GPUs", "cuda", 10**10, 10**10), CPU)
    with pytest.raises(ModelError, match="The GPUs cannot hold all layers; some were left to cpu, from where"):
        load(ModelFiles(folder), device="all")


def test_the_digest_is_of_names_and_bits_and_shows_one_bit_of_a_bfloat16_weight(folder: Path) -> None:
    loaded = load(ModelFiles(folder), device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    before, bits = loaded.digest(), loaded.model.transformer.ln_f.weight.view(torch.int16)
    by_hand = hashlib.sha256()
    for name, weight in sorted(loaded.model.state_dict().items()):
        by_hand.update(name.encode() + weight.view(torch.int16).numpy().tobytes())
    assert loaded.digest() == before == by_hand.hexdigest()
    bits[-1] ^= 1
    assert loaded.digest() != before


class Config(PretrainedConfig):
    """A configuration with anything in it."""

    model_type = "anything"


def test_a_context_is_that_of_the_text_part_and_one_that_is_not_told_refused(gpt2: LoadedModel) -> None:
    gpt2.model.config = Config()
    gpt2.model.config.text_config = Config(max_position_embeddings=77)
    assert gpt2.context == 77
    for length in (None, "long", 0):
        gpt2.model.config = Config() if length is None else Config(max_position_embeddings=length)
        with pytest.raises(ModelError, match=f"'anything' model gives {length!r} as max_position_embeddings"):
            _ = gpt2.context


SHAPES = r"holds transformer\.h\.0\.mlp\.c_fc\.bias with shape \(40,\) where its config\.json wants \(48,\)"
DAMAGES: tuple[tuple[Callable[[Path], object], str], ...] = (
    (lambda folder: cut(folder / "model.safetensors", 0.999), ""),
    (lambda folder: cut(folder / "config.json", 0.5), ""),
    (lambda folder: cut(folder / "tokenizer.json", 0.5), ""),
    (lambda folder: (folder / "config.json").write_text("[]"), ""),
    (lambda folder: (folder / "tokenizer.json").write_text('{"model": {"type": "Nope"}}'), ""),
    (lambda folder: change_config(folder, model_type="never heard of"), ""),
    (lambda folder: change_config(folder, n_layer="many"), ""),
    (lambda folder: change_config(folder, n_layer=4), "lacks 12 of the model's tensors, such as transformer"),
    (lambda folder: change_config(folder, n_inner=48), SHAPES),
    (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "a tokenizer of 0 tokens where the model"),
    (lambda folder: tiny.model("GPT-2", vocabulary=9).model.save_pretrained(folder), "3,000 tokens where .* knows 9"),
)


class TestLoad:
    @pytest.mark.parametrize("name", tiny.in_full(tiny.ARCHITECTURES))
    def test_gives_the_saved_weights_ready_to_be_read(self, name: str, tmp_path: Path) -> None:
        original = tiny.model(name).model.state_dict()
        loaded = load(ModelFiles(tiny.save(name, tmp_path / "model")), device="cpu")
        actual = loaded.model.state_dict()
        assert actual.keys() == original.keys()
        assert all(torch.equal(actual[key], original[key]) for key in original)
        assert not loaded.model.training
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert (loaded.architecture.name, loaded.context, loaded.device.type) == (name, tiny.CONTEXT, "cpu")

    def test_half_precision_on_disk_becomes_float32(self, folder: Path) -> None:
        halves = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
        change_config(folder, dtype="float16")
        loaded = load(ModelFiles(folder), device="cpu")
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
        assert torch.equal(loaded.model.transformer.wpe.weight, halves["transformer.wpe.weight"].float())

    def test_a_damaged_folder_is_refused_and_nothing_made_up(self, saved: Path, tmp_path: Path) -> None:
        for number, (damage, message) in enumerate(DAMAGES):
            folder = Path(shutil.copytree(saved, tmp_path / str(number)))
            damage(folder)
            with pytest.raises(ModelError, match=message or str(folder)):
                load(ModelFiles(folder), device="cpu")

    def test_no_code_of_the_folder_runs(self, folder: Path, tmp_path: Path) -> None:
        for module in ("configuration_evil", "modeling_evil", "tokenization_evil"):
            (folder / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
        mapped = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
        change_config(folder, model_type="evil", auto_map=mapped)
        with pytest.raises(ModelError):
            load(ModelFiles(folder), device="cpu")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("special", [False, True])
    def test_an_added_token_beyond_the_embedding_is_named(self, folder: Path, special: bool) -> None:
        """At once where any text may hold it, else (padding, images) when a text does."""
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer.add_tokens([AddedToken("[zap]", special=special)], special_tokens=special)
        assert tokenizer.convert_tokens_to_ids("[zap]") == tiny.VOCABULARY
        tokenizer.save_pretrained(folder)
        if not special:
            with pytest.raises(ModelError, match=r"the token '\[zap\]' \(number 3,000\), for which .* knows 3,000"):
                load(ModelFiles(folder), device="cpu")
            return
        loaded = load(ModelFiles(folder), device="cpu")
        assert len(second_moments(loaded, ["Oslo lies in Norway."], tokens=9)) == 3
        with pytest.raises(ModelError, match=r"A text holds '\[zap\]'"):
            second_moments(loaded, ["Oslo lies in [zap]."], tokens=9)

    def test_memory_that_runs_out_is_told(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"
        for error in (MemoryError(), RuntimeError("MPS backend out of memory (MPS: 8 GB)"), RuntimeError(cpu)):

            def fail(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
            with pytest.raises(ModelError, match=r"The memory ran out while gpt2 was loaded.* choose bfloat16"):
                load(ModelFiles(folder), device="cpu")


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


PARAMETERS = {"small": 10, "other": 10, "third": 10, "large": 1000}
MOST = 100  # bytes: two of the small ones in float32, and no third


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are loaded, by name, as they are."""
    actual: list[str] = []

    def load(files: ModelFiles, *, device: str, dtype: str) -> Any:
        actual.append(files.name)
        return SimpleNamespace(device="cpu" if device == "auto" else device, dtype=dtype, name=files.name)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # it takes half a second
    monkeypatch.setattr(ModelFiles, "parameters", lambda files: PARAMETERS[files.name])
    return actual


def lent(models: LoadedModels, name: str, device: str = "auto", dtype: str = "float32") -> Any:
    return models.lend(f"sha of {name}", lambda: ModelFiles(Path(name)), device=device, dtype=dtype)


@pytest.mark.parametrize(
    ("asked", "loaded"),
    [
        (["small", "small"], ["small"]),
        (["small", "other", "small", "other"], ["small", "other"]),
        (["small", "other", "small", "third", "small", "other"], ["small", "other", "third", "other"]),
        (["large", "large", "small", "large"], ["large", "small", "large"]),
    ],
)
def test_what_is_held_is_lent_again(loads: list[str], asked: list[str], loaded: list[str]) -> None:
    models = LoadedModels(MOST)
    assert [lent(models, name).name for name in asked] == asked
    assert loads == loaded


def test_what_was_let_go_takes_no_memory_and_is_loaded_again(loads: list[str]) -> None:
    models = LoadedModels(MOST)
    lent(models, "small")
    assert models.held_bytes > 0
    models.let_go()
    assert models.held_bytes == 0
    lent(models, "small")
    assert loads == ["small", "small"]


def test_where_it_runs_and_what_it_computes_in_count(loads: list[str]) -> None:
    models = LoadedModels(1000)
    anywhere = lent(models, "small")
    assert lent(models, "small", "cpu") is anywhere, "auto chose the processor"
    assert lent(models, "small", "cuda:1") is not anywhere
    assert lent(models, "small", dtype="bfloat16") is not anywhere
    assert lent(models, "small") is anywhere
    assert len(loads) == 3


def test_room_is_made_before_the_next_is_loaded(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    models, held, original = LoadedModels(MOST), [], loading.load

    def load(*args: Any, **named: Any) -> Any:
        held.append(len(models._held))
        return original(*args, **named)

    lent(models, "large")
    monkeypatch.setattr(loading, "load", load)
    lent(models, "small")
    assert held == [0]


def test_threads_that_want_the_same_wait_for_one_load(loads: list[str]) -> None:
    models, begin = LoadedModels(MOST), threading.Barrier(4)

    def work(_: int) -> Any:
        begin.wait(timeout=60)
        return lent(models, "small")

    with ThreadPoolExecutor(4) as pool:
        assert len({id(held) for held in pool.map(work, range(4))}) == 1
    assert loads == ["small"]
