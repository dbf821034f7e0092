"""Models: which are recognised and where their keys lie, hostile names, and folders that are not what they say."""

from __future__ import annotations

import json
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
)
from transformers.pytorch_utils import Conv1D

from kis_core.models import catalog
from kis_core.models.architecture import LAYOUTS, UnsupportedArchitecture, recognise
from kis_core.models.catalog import find, locate
from kis_core.models.files import ModelError, checked_folder, fingerprint, float32_bytes, parameters
from kis_core.models.loading import OVERHEAD, available_bytes, choose_device, load
from tests import tiny

TWO_GIGABYTES = 2 * 10**9
LLAMA_70B = LlamaConfig(
    vocab_size=32000, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
    num_key_value_heads=8,
)  # fmt: skip
LLAMA_70B_PARAMETERS = 68_976_648_192  # 2·32000·8192 + 80·(2·8192² + 2·8192·1024 + 3·8192·28672 + 2·8192) + 8192

PUBLISHED = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "gpt-j-6b": GPTJConfig(tie_word_embeddings=False),
    "pythia-1b": GPTNeoXConfig(vocab_size=50304, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16),
    "pythia-2.8b": GPTNeoXConfig(vocab_size=50304, hidden_size=2560, intermediate_size=10240, num_hidden_layers=32),
    "pythia-6.9b": GPTNeoXConfig(vocab_size=50432, hidden_size=4096, intermediate_size=16384, num_hidden_layers=32),
    "llama-2-7b": LlamaConfig(),
    "llama-2-13b": LlamaConfig(hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40),
    "llama-3-8b": LlamaConfig(vocab_size=128256, intermediate_size=14336, num_key_value_heads=8),
    "llama-3.1-8b": LlamaConfig(vocab_size=128256, intermediate_size=14336, num_key_value_heads=8),
}

HOSTILE_NAMES = (
    "", ".", "..", "../", "../../etc", "/", "/etc", "/etc/passwd", "/proc/self/mem", "~", "~root", "$HOME", "${HOME}",
    "../link", "../loop", "gpt2\0", "a\0/../../etc", "x" * 300, "x/" * 150, "x" * 5000, "org/" + "x" * 97, "a/b/c",
    "a/../b", "..\\..\\windows", "C:\\models", "file:///etc", "http://127.0.0.1/model", "org/na me", "org/name\n",
    "org--name", "name-", "name.git", ".hidden", "-rf", "%2e%2e/%2e%2e", "\u202eevil", "\ud800", "мodel",
    "$(touch here)", "; rm -rf .", "<script>", "{0.__class__}",
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 folder; tests that change it work on a copy."""
    return tiny.save("GPT-2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "gpt2"))


def write_header(path: Path, header: object, data: bytes = b"") -> None:
    """A safetensors file with any header, true or not."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def on_meta(config: PretrainedConfig) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


class TestArchitecture:
    @pytest.mark.parametrize("name", tiny.ARCHITECTURES)
    def test_each_supported_one_is_recognised_by_its_modules(self, name: str) -> None:
        model = on_meta(tiny.configs()[name])
        model.config.model_type = "a name that says nothing"
        found = recognise(model)
        assert (found.name, found.layers, found.widths) == (name, 3, (24, 40))
        assert len(set(found.down_projections)) == 3

    def test_gpt2_stores_its_projection_transposed(self) -> None:
        found = recognise(on_meta(tiny.configs()["GPT-2"]))
        assert all(isinstance(module, Conv1D) for module in found.down_projections)
        assert found.down_projections[0].weight.shape == (40, 24)
        assert found.widths == (24, 40)

    @pytest.mark.parametrize("name", tiny.ARCHITECTURES)
    def test_the_projection_reads_a_key_and_writes_to_the_residual_stream(self, name: str) -> None:
        for module in tiny.model(name).architecture.down_projections:
            assert module(torch.zeros(1, 40)).shape == (1, 24)

    def test_a_model_built_like_llama_needs_no_layout_of_its_own(self) -> None:
        config = MistralConfig(
            vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1,
        )  # fmt: skip
        found = recognise(on_meta(config))
        assert (found.name, found.layers, found.widths) == ("Llama", 2, (24, 40))

    @pytest.mark.parametrize(
        ("config", "found"),
        [
            (BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2), ("'bloom'", "BloomForCausalLM")),
            (
                OPTConfig(
                    vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=20,
                    word_embed_proj_dim=16,
                ),
                ("'opt'", "OPTForCausalLM"),
            ),
        ],
    )  # fmt: skip
    def test_an_unsupported_one_is_told_what_was_found_and_what_is_supported(
        self, config: PretrainedConfig, found: tuple[str, ...]
    ) -> None:
        with pytest.raises(UnsupportedArchitecture) as caught:
            recognise(on_meta(config))
        for wanted in (*found, "lm_head", *tiny.ARCHITECTURES):
            assert wanted in str(caught.value)

    def test_one_block_without_its_projection_is_enough_to_refuse(self) -> None:
        model = on_meta(tiny.configs()["Llama"])
        model.model.layers[1].mlp = torch.nn.Identity()
        with pytest.raises(UnsupportedArchitecture, match="LlamaForCausalLM"):
            recognise(model)

    def test_layouts_have_names_of_their_own(self) -> None:
        assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


class TestCatalog:
    def test_no_name_or_source_stands_for_two_models(self) -> None:
        entries = catalog.entries()
        for attribute in ("name", "source"):
            assert len({getattr(entry, attribute).lower() for entry in entries}) == len(entries)
        assert not {entry.name for entry in entries} & {e.source for e in entries if e.source != e.name}

    @pytest.mark.parametrize("entry", catalog.demo(), ids=lambda entry: entry.name)
    def test_embedded_models_are_as_the_catalogue_has_them(self, entry: catalog.Entry) -> None:
        assert locate(entry.name) == entry.folder
        model = on_meta(AutoConfig.from_pretrained(entry.folder, local_files_only=True))
        assert_as_catalogued(model, entry)

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_models_of_the_paper_are_as_the_catalogue_has_them(self, name: str) -> None:
        entry = find(name)
        assert entry
        assert_as_catalogued(on_meta(PUBLISHED[name]), entry)

    def test_every_model_of_the_paper_is_checked(self) -> None:
        assert {entry.name for entry in catalog.PAPER} == set(PUBLISHED)

    def test_finds_by_name_and_by_hub_id(self) -> None:
        assert find("gpt-j-6b") is find("EleutherAI/gpt-j-6b") is not None
        assert find("nothing of the sort") is None

    def test_the_default_is_embedded(self) -> None:
        entry = find(catalog.DEFAULT)
        assert entry
        assert entry in catalog.demo()

    def test_what_is_available_is_in_the_catalogue(self) -> None:
        assert set(catalog.demo()) <= set(catalog.available()) <= set(catalog.entries())


def assert_as_catalogued(model: Any, entry: catalog.Entry) -> None:
    found = recognise(model)
    assert model.num_parameters() == entry.parameters
    assert (found.layers, *found.widths) == (entry.layers, entry.width, entry.mlp_width)


class TestLocate:
    @pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
    def test_hostile_names_are_refused(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path
    ) -> None:
        (tmp_path / "link").symlink_to("/etc")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("HOME", str(saved))
        with pytest.raises(ModelError) as caught:
            locate(name)
        assert len(str(caught.value)) < 500
        assert list((tmp_path / "here").iterdir()) == []

    def test_there_are_twenty_hostile_names_and_more(self) -> None:
        assert len(set(HOSTILE_NAMES)) >= 20

    def test_a_folder_is_found_by_its_path_also_through_a_link(self, saved: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(saved)
        assert locate(str(saved)) == locate(str(tmp_path / "link")) == saved.resolve()

    def test_a_hub_model_that_is_not_here_tells_what_to_do(self) -> None:
        with pytest.raises(ModelError, match=r"openai-community/gpt2 is not on this machine .* Connect to the network"):
            locate("gpt2")

    @pytest.mark.parametrize(
        ("error", "advice"),
        [
            (
                hub_errors.GatedRepoError,
                "accept its licence at https://huggingface.co/meta-llama/Llama-2-7b-hf, run `hf",
            ),
            (hub_errors.RevisionNotFoundError, "has no revision 'v9'"),
            (hub_errors.RepositoryNotFoundError, "There is no model 'meta-llama/Llama-2-7b-hf'"),
            (hub_errors.HfHubHTTPError, r"could not be downloaded \(HfHubHTTPError\)"),
        ],
    )
    def test_what_the_hub_says_becomes_advice(
        self, monkeypatch: pytest.MonkeyPatch, error: type[hub_errors.HfHubHTTPError], advice: str
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise error("no", response=SimpleNamespace(headers={}, request=None))

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(ModelError, match=advice):
            locate("llama-2-7b", revision="v9")

    def test_the_hub_is_asked_for_that_revision_and_for_no_code(
        self, monkeypatch: pytest.MonkeyPatch, saved: Path
    ) -> None:
        asked: dict[str, Any] = {}

        def download(name: str, **options: Any) -> str:
            asked.update(options, name=name)
            return str(saved)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        assert locate("llama-2-7b", revision="v9") == saved
        assert (asked["name"], asked["revision"]) == ("meta-llama/Llama-2-7b-hf", "v9")
        assert not any(pattern.endswith((".py", ".bin", ".pt", "*")) for pattern in asked["allow_patterns"])


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
        shapes = {name: list(tensor.shape) for name, tensor in on_meta(LLAMA_70B).state_dict().items()}
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
