"""Models: which are recognised and where their keys lie, which are catalogued, and hostile names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors
from transformers import (
    AutoConfig,
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
from kis_core.models.files import ModelError
from tests import tiny

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


class TestArchitecture:
    @pytest.mark.parametrize("name", tiny.ARCHITECTURES)
    def test_each_supported_one_is_recognised_by_its_modules(self, name: str) -> None:
        model = tiny.on_meta(tiny.configs()[name])
        model.config.model_type = "a name that says nothing"
        found = recognise(model)
        assert (found.name, found.layers, found.widths) == (name, 3, (24, 40))
        assert len(set(found.down_projections)) == 3

    def test_gpt2_stores_its_projection_transposed(self) -> None:
        found = recognise(tiny.on_meta(tiny.configs()["GPT-2"]))
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
        found = recognise(tiny.on_meta(config))
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
            recognise(tiny.on_meta(config))
        for wanted in (*found, "lm_head", *tiny.ARCHITECTURES):
            assert wanted in str(caught.value)

    def test_one_block_without_its_projection_is_enough_to_refuse(self) -> None:
        model = tiny.on_meta(tiny.configs()["Llama"])
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
        model = tiny.on_meta(AutoConfig.from_pretrained(entry.folder, local_files_only=True))
        assert_as_catalogued(model, entry)

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_models_of_the_paper_are_as_the_catalogue_has_them(self, name: str) -> None:
        entry = find(name)
        assert entry
        assert_as_catalogued(tiny.on_meta(PUBLISHED[name]), entry)

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
