"""The catalogue: every entry as its configuration has it, where models lie, and hostile names."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors
from transformers import AutoConfig, PretrainedConfig

from kis_core.models import catalog
from kis_core.models.architecture import recognise
from kis_core.models.catalog import find, locate
from kis_core.models.files import INDEX, ModelError, ModelFiles
from tests import tiny
from tests.published_configs import published

PUBLISHED = published()
PAPER = {
    "gpt2", "gpt2-medium", "gpt2-large", "gpt-j-6b", "pythia-1b", "pythia-2.8b", "pythia-6.9b", "llama-2-7b",
    "llama-2-13b", "llama-3-8b", "llama-3.1-8b",
}  # fmt: skip
TOLD = {  # in millions, on their model cards
    "gpt2": 124, "gpt2-xl": 1_558, "gpt-j-6b": 6_050, "pythia-12b": 11_846, "llama-3.1-70b": 70_600,
    "mistral-7b-v0.1": 7_240, "qwen2.5-0.5b": 494, "qwen3-8b": 8_190, "gemma-2-9b": 9_240, "gemma-3-4b": 4_300,
    "opt-125m": 125, "phi-2": 2_780, "phi-3.5-mini": 3_820,
}  # fmt: skip

HOSTILE_NAMES = (
    "", ".", "..", "../", "../../etc", "/", "/etc", "/etc/passwd", "/proc/self/mem", "~", "~root", "$HOME", "${HOME}",
    "../link", "../loop", "gpt2\0", "a\0/../../etc", "x" * 300, "x/" * 150, "x" * 5000, "org/" + "x" * 97, "a/b/c",
    "a/../b", "..\\..\\windows", "C:\\models", "file:///etc", "http://127.0.0.1/model", "org/na me", "org/name\n",
    "org--name", "name-", "name.git", ".hidden", "-rf", "%2e%2e/%2e%2e", "\u202eevil", "\ud800", "мodel",
    "$(touch here)", "; rm -rf .", "<script>", "{0.__class__}",
)  # fmt: skip


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
    found = recognise(model)
    assert model.num_parameters() == entry.parameters
    assert (found.layers, *found.widths) == (entry.layers, entry.width, entry.mlp_width)
    assert config.get_text_config().max_position_embeddings == entry.context


class TestEntries:
    def test_no_name_or_source_stands_for_two_models(self) -> None:
        entries = catalog.entries()
        for attribute in ("name", "source"):
            assert len({getattr(entry, attribute).lower() for entry in entries}) == len(entries)
        assert not {entry.name for entry in entries} & {e.source for e in entries if e.source != e.name}

    @pytest.mark.parametrize("entry", catalog.demo(), ids=lambda entry: entry.name)
    def test_embedded_models_are_as_the_catalogue_has_them(self, entry: catalog.ModelEntry) -> None:
        assert entry.folder is not None
        assert locate(entry.name) == entry.folder
        assert_as_catalogued(AutoConfig.from_pretrained(entry.folder.path, local_files_only=True), entry)
        assert (entry.dtype, entry.download_bytes) == ("float16", 0)
        assert not entry.paper

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_models_of_the_hub_are_as_their_configurations_make_them(self, name: str) -> None:
        entry = find(name)
        assert entry
        assert_as_catalogued(PUBLISHED[name], entry)

    def test_every_model_of_the_hub_is_checked(self) -> None:
        assert {entry.name for entry in catalog.hub()} == set(PUBLISHED)
        assert {entry.name for entry in catalog.PAPER} == {e.name for e in catalog.hub() if e.paper} == PAPER

    @pytest.mark.parametrize("name", TOLD)
    def test_sizes_are_those_that_model_cards_tell(self, name: str) -> None:
        entry = find(name)
        assert entry
        assert entry.parameters == pytest.approx(TOLD[name] * 1e6, rel=5e-3)

    def test_the_file_says_yes_or_no_and_commits_are_whole(self) -> None:
        with Path(catalog.__file__).with_name("catalog.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == len(catalog.hub())
        for row in rows:
            assert {row["gated"], row["paper"], row["safetensors"]} <= {"yes", "no"}
            assert re.fullmatch(r"[0-9a-f]{40}|", row["revision"])
            assert catalog.HUB_ID.fullmatch(row["source"])
            assert row["source"].count("/") == 1
        revisions = [row["revision"] for row in rows if row["revision"]]
        assert len(set(revisions)) == len(revisions)

    def test_download_sizes_by_hand(self) -> None:
        sizes = {"gpt2": 4 * 124_439_808, "pythia-1b": 2 * 1_011_781_632, "llama-3-8b": 2 * 8_030_261_248}
        for name, size in sizes.items():
            entry = find(name)
            assert entry
            assert entry.download_bytes == size

    def test_finds_by_name_and_by_hub_id(self) -> None:
        assert find("gpt-j-6b") is find("EleutherAI/gpt-j-6b") is not None
        assert find("nothing of the sort") is None

    def test_the_default_is_embedded(self) -> None:
        assert find(catalog.DEFAULT) in catalog.demo()


class TestAvailable:
    def test_the_demo_family_always_is(self, hub_cache: Path) -> None:
        assert catalog.available() == catalog.demo()

    @pytest.mark.parametrize("files", [{"config.json"}, {"config.json", "model.safetensors"}, {"model.safetensors"}])
    def test_what_the_hubs_cache_holds_at_the_pinned_commit_with_its_weights(
        self, hub_cache: Path, files: set[str]
    ) -> None:
        entry = find("gpt2")
        assert entry
        folder = hub_cache / "models--openai-community--gpt2" / "snapshots" / str(entry.revision)
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("{}")
        assert (entry in catalog.available()) == (len(files) == 2)


class TestWeightFiles:
    @pytest.mark.parametrize(
        ("there", "index", "read"),
        [
            (["b", "a"], None, ["a", "b"]),
            (["model", "adapter"], None, ["model"]),
            (["b", "a", "c"], '{"weight_map": {"x": "b.safetensors", "y": "a.safetensors"}}', ["a", "b"]),
            (["a", "b"], '{"weight_map": {"x": "./b.safetensors"}}', ["b"]),
            (["a"], '{"weight_map": 3}', ["a"]),
            (["a"], "[]", ["a"]),
            (["a"], "not JSON", ["a"]),
            (["a"], "[" * 100_000, ["a"]),
            ([], None, []),
        ],
    )  # fmt: skip
    def test_are_those_that_transformers_reads(
        self, tmp_path: Path, there: list[str], index: str | None, read: list[str]
    ) -> None:
        for name in there:
            (tmp_path / f"{name}.safetensors").touch()
        if index is not None:
            (tmp_path / INDEX).write_text(index)
        assert [path.stem for path in ModelFiles(tmp_path).weights()] == read

    def test_weights_that_lie_there_twice_count_once(self, folder: Path) -> None:
        once = ModelFiles(folder).parameters()
        (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        assert ModelFiles(folder).parameters() == once

    def test_a_folder_with_other_formats_alone_is_told_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "pytorch_model.bin").touch()
        with pytest.raises(ModelError, match=r"holds no \*\.safetensors weights.*save_pretrained"):
            ModelFiles(tmp_path).checked()


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

    @pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
    def test_what_of_them_reaches_the_hub_stays_inside_its_cache(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(repo: str, **_: object) -> None:
            folder = tmp_path / huggingface_hub.file_download.repo_folder_name(repo_id=repo, repo_type="model")
            assert folder.resolve().parent == tmp_path.resolve()
            raise hub_errors.LocalEntryNotFoundError("no")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", stop)
        with pytest.raises(ModelError):
            locate(name)

    @pytest.mark.parametrize(
        "revision",
        ["../../etc/passwd", "refs/../../x", "/etc/passwd", "~", "v1\0", "v1\n", "-rf", "a b", "x" * 300, "ü/.."],
    )
    def test_a_revision_is_no_path(self, asked: dict[str, Any], revision: str) -> None:
        for name in ("gpt2", "somebody/something"):
            with pytest.raises(ModelError, match="is not a revision of"):
                locate(name, revision=revision)
        assert asked == {}

    def test_there_are_twenty_hostile_names_and_more(self) -> None:
        assert len(set(HOSTILE_NAMES)) >= 20

    def test_a_folder_is_found_by_its_path_also_through_a_link(self, saved: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(saved)
        assert locate(str(saved)) == locate(str(tmp_path / "link")) == ModelFiles(saved.resolve())

    def test_a_hub_model_that_is_not_here_tells_what_to_do(self) -> None:
        commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
        told = rf"openai-community/gpt2 is not on this machine at revision {commit} .* Connect to the network"
        with pytest.raises(ModelError, match=told):
            locate("gpt2")
        with pytest.raises(ModelError, match="facebook/opt-125m is not on this machine and cannot"):
            locate("opt-125m")

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


class TestWhatIsDownloaded:
    @pytest.mark.parametrize(
        ("name", "revision", "wanted"),
        [
            ("llama-2-7b", "v9", "v9"),
            ("llama-2-7b", None, "01c7f73d771dfac7d292323805ebc428287df4f9"),
            ("meta-llama/Llama-2-7b-hf", None, "01c7f73d771dfac7d292323805ebc428287df4f9"),
            ("opt-125m", None, None),
            ("somebody/something", None, None),
            ("somebody/something", "v9", "v9"),
            ("somebody/something", "refs/pr/3", "refs/pr/3"),
        ],
    )
    def test_the_revision_asked_for_or_else_the_pinned_one(
        self, asked: dict[str, Any], saved: Path, name: str, revision: str | None, wanted: str | None
    ) -> None:
        assert locate(name, revision=revision) == ModelFiles(saved)
        entry = find(name)
        assert (asked["name"], asked["revision"]) == (entry.source if entry else name, wanted)

    def test_no_code_and_nothing_twice(self, asked: dict[str, Any]) -> None:
        locate("mistral-7b-v0.3")
        there = [
            "config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "model-00001-of-00002.safetensors",
            INDEX, "model.safetensors", "modeling.py", "pytorch_model.bin", "model.pt", "consolidated.safetensors",
            "consolidated.safetensors.index.json", "original/params.json", "onnx/decoder.json", "README.md",
        ]  # fmt: skip
        wanted = huggingface_hub.utils.filter_repo_objects(
            there, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
        )
        assert list(wanted) == there[:7]
