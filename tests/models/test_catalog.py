"""The catalogue: every entry as its configuration has it, where models lie, and hostile names."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors
from transformers import AutoConfig, PretrainedConfig

from kis_core.models import catalog, gguf
from kis_core.models.architecture import recognise
from kis_core.models.catalog import find, locate
from kis_core.models.files import INDEX, ModelError, ModelFiles
from tests import tiny
from tests.published_configs import published

PUBLISHED = published()
PAPER = {
    *("gpt2", "gpt2-medium", "gpt2-large", "gpt-j-6b", "pythia-1b", "pythia-2.8b", "pythia-6.9b"),
    *("llama-2-7b", "llama-2-13b", "llama-3-8b", "llama-3.1-8b"),
}
ONE_OF_EACH = ("gpt2", "gpt-j-6b", "pythia-70m", "llama-3.2-1b", "qwen3-0.6b", "gemma-3-4b", "opt-125m", "phi-2")
MODEL_CARDS = {"gpt2": 124, "gpt-j-6b": 6_050, "pythia-12b": 11_846, "llama-3.1-70b": 70_600, "mistral-7b-v0.1": 7_240}
MODEL_CARDS |= {"qwen2.5-0.5b": 494, "gemma-2-9b": 9_240, "gemma-3-4b": 4_300, "opt-125m": 125, "phi-3.5-mini": 3_820}
"""Parameters in millions."""
DOWNLOADS = {"gpt2": 4 * 124_439_808, "pythia-1b": 2 * 1_011_781_632, "llama-3-8b": 2 * 8_030_261_248}

HOSTILE_NAMES = (
    *("", ".", "..", "../", "../../etc", "/", "/etc", "/etc/passwd", "/proc/self/mem", "~", "~root", "$HOME"),
    *("${HOME}", "../link", "../loop", "gpt2\0", "a\0/../../etc", "x" * 300, "x/" * 150, "x" * 5000),
    *("org/" + "x" * 97, "a/b/c", "a/../b", "..\\..\\windows", "C:\\models", "file:///etc", "http://127.0.0.1/model"),
    *("org/na me", "org/name\n", "org--name", "name-", "name.git", ".hidden", "-rf", "%2e%2e/%2e%2e", "\u202eevil"),
    *("\ud800", "мodel", "$(touch here)", "; rm -rf .", "<script>", "{0.__class__}"),
)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub in place of this machine's."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.file_download, "HF_HUB_CACHE", str(folder), raising=False)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, saved: Path) -> dict[str, Any]:
    """What the Hub was asked for; it always answers with the saved model."""
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def assert_as_catalogued(config: PretrainedConfig, entry: catalog.ModelEntry) -> None:
    model = tiny.on_meta(config)
    actual = recognise(model)
    assert model.num_parameters() == entry.parameters
    assert (actual.layers, *actual.widths) == (entry.layers, entry.width, entry.mlp_width)
    assert config.get_text_config().max_position_embeddings == entry.context


class TestEntries:
    @pytest.mark.parametrize("entry", catalog.demo(), ids=lambda entry: entry.name)
    def test_embedded_models_are_as_the_catalogue_has_them(self, entry: catalog.ModelEntry) -> None:
        assert entry.files is not None
        assert locate(entry.name) == entry.files
        assert_as_catalogued(AutoConfig.from_pretrained(entry.files.path, local_files_only=True), entry)
        assert (entry.dtype, entry.download_bytes) == ("float16", 0)
        assert not entry.paper

    @pytest.mark.parametrize("name", tiny.in_full(PUBLISHED, ONE_OF_EACH))
    def test_models_of_the_hub_are_as_their_configurations_make_them(self, name: str) -> None:
        entry = find(name)
        assert entry
        assert_as_catalogued(PUBLISHED[name], entry)

    def test_sizes_are_those_of_model_cards_and_every_model_of_the_hub_is_checked(self) -> None:
        for name, millions in MODEL_CARDS.items():
            assert find(name).parameters == pytest.approx(millions * 1e6, rel=5e-3), name
        for name, config in PUBLISHED.items():
            text, entry = config.get_text_config(), find(name)
            shape = (text.num_hidden_layers, text.hidden_size, text.max_position_embeddings)
            assert shape == (entry.layers, entry.width, entry.context), name
        for name, size in DOWNLOADS.items():
            assert find(name).download_bytes == size
        assert {entry.name for entry in catalog.hub()} == set(PUBLISHED)
        assert {entry.name for entry in catalog.PAPER} == {e.name for e in catalog.hub() if e.paper} == PAPER

    def test_the_file_says_yes_or_no_and_commits_are_whole(self) -> None:
        with Path(catalog.__file__).with_name("catalog.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == len(catalog.hub())
        entries = catalog.entries()
        for attribute in ("name", "source"):
            assert len({getattr(entry, attribute).lower() for entry in entries}) == len(entries)
        assert find("gpt-j-6b") is find("EleutherAI/gpt-j-6b") is not None
        assert find("nothing of the sort") is None
        for row in rows:
            assert {row["gated"], row["paper"], row["safetensors"]} <= {"yes", "no"}
            assert re.fullmatch(r"[0-9a-f]{40}|", row["revision"])
            assert (gguf.IN_PACKAGE if row["package"] else catalog.HUB_ID).fullmatch(row["source"])
            assert bool(row["package"]) == bool(row["quantisation"])
            assert row["licence"]
            assert row["source"].count("/") == 1
        revisions = [row["revision"] for row in rows if row["revision"]]
        assert len(set(revisions)) == len(revisions)


class TestAvailable:
    @pytest.mark.parametrize("files", [{"config.json"}, {"config.json", "model.safetensors"}, {"model.safetensors"}])
    def test_what_the_cache_holds_at_the_pinned_commit(
        self, hub_cache: Path, files: set[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gguf, "in_package", lambda _: None)  # whatever packages are installed
        entry = find("gpt2")
        assert entry
        folder = hub_cache / "models--openai-community--gpt2" / "snapshots" / str(entry.revision)
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("{}")
        assert catalog.available() == (*catalog.demo(), *((entry,) if len(files) == 2 else ()))


def test_weight_files_are_those_that_transformers_reads(tmp_path: Path) -> None:
    for number, (there, index, read) in enumerate(
        (
            (["model", "adapter"], None, ["model"]),
            (["b", "a", "c"], '{"weight_map": {"x": "b.safetensors", "y": "a.safetensors"}}', ["a", "b"]),
            (["a", "b"], '{"weight_map": {"x": "./b.safetensors"}}', ["b"]),
            (["a"], '{"weight_map": 3}', ["a"]),
            (["a"], "[" * 100_000, ["a"]),
            ([], None, []),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in there:
            (folder / f"{name}.safetensors").touch()
        if index is not None:
            (folder / INDEX).write_text(index)
        assert [path.stem for path in ModelFiles(folder).weights()] == read


class TestLocate:
    def test_hostile_names_stay_inside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
        def stop(repo: str, **_: object) -> None:
            folder = tmp_path / huggingface_hub.file_download.repo_folder_name(repo_id=repo, repo_type="model")
            assert folder.resolve().parent == tmp_path.resolve()
            raise hub_errors.LocalEntryNotFoundError("no")

        (tmp_path / "link").symlink_to("/etc")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("HOME", str(saved))
        monkeypatch.setattr(huggingface_hub, "snapshot_download", stop)
        for name in HOSTILE_NAMES:
            with pytest.raises(ModelError) as caught:
                locate(name)
            assert len(str(caught.value)) < 500
        assert list((tmp_path / "here").iterdir()) == []

    @pytest.mark.parametrize("revision", ["refs/../../x", "/etc/passwd", "~", "v1\0", "v1\n", "-rf", "x" * 300])
    def test_a_revision_is_no_path(self, asked: dict[str, Any], revision: str) -> None:
        for name in ("gpt2", "somebody/something"):
            with pytest.raises(ModelError, match="is not a revision of"):
                locate(name, revision=revision)
        assert asked == {}


class TestWhatIsDownloaded:
    def test_the_revision_and_no_code(self, asked: dict[str, Any], saved: Path) -> None:
        for name, revision, wanted in (
            ("llama-2-7b", "v9", "v9"),
            ("meta-llama/Llama-2-7b-hf", None, "01c7f73d771dfac7d292323805ebc428287df4f9"),
            ("opt-125m", None, None),
            ("somebody/something", "refs/pr/3", "refs/pr/3"),
        ):
            assert locate(name, revision=revision) == ModelFiles(saved)
            entry = find(name)
            assert (asked["name"], asked["revision"]) == (entry.source if entry else name, wanted)
        texts = ("config.json", "tokenizer.json", "tokenizer.model", "merges.txt", INDEX)
        read = [*texts, "model.safetensors", "model-00001-of-00002.safetensors"]
        code = ("modeling.py", "pytorch_model.bin", "model.pt", "README.md", "original/params.json")
        twice = ("consolidated.safetensors", "consolidated.safetensors.index.json", "onnx/decoder.json")
        wanted = huggingface_hub.utils.filter_repo_objects(
            [*read, *code, *twice], allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
        )
        assert list(wanted) == read
