"""The size of a model in no catalogue, read from its configuration; hostile names and folders are refused in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kis_core.models import catalog, describe, loading
from kis_core.models.architecture import UnsupportedArchitecture
from kis_core.models.describe import TYPED, described
from kis_core.models.files import ModelError, ModelFiles, NotHere
from tests import tiny
from tests.models.test_catalog import HOSTILE_NAMES


def configured(folder: Path, **changes: Any) -> Path:
    """The folder, its configuration changed; None takes a field away."""
    path = folder / "config.json"
    told = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in told.items() if value is not None}), "utf-8")
    return folder


@pytest.mark.parametrize("architecture", tiny.EVERY_ARCHITECTURE)
def test_a_configuration_alone_tells_the_size(architecture: str, tmp_path: Path) -> None:
    config = tiny.every_config()[architecture]
    config.save_pretrained(tmp_path)
    entry = described(str(tmp_path))
    whole = tiny.model(architecture)
    assert entry.parameters == whole.model.num_parameters()
    assert (entry.layers, entry.width, entry.mlp_width) == (3, *whole.architecture.widths)
    assert (entry.name, entry.source, entry.family) == (str(tmp_path), str(tmp_path), TYPED)
    assert (entry.context, entry.folder, entry.download_bytes) == (tiny.CONTEXT, ModelFiles(tmp_path), 0)
    assert not entry.gated


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2", catalog.DEFAULT])
def test_what_the_catalogue_knows_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "hub_configuration", None)
    assert described(name) is catalog.find(name)


@pytest.mark.parametrize(
    ("stored", "told"), [("float16", "float16"), ("bfloat16", "bfloat16"), (None, "float32"), ("float64", "float32")]
)
def test_a_model_of_the_hub_is_read_from_its_configuration(
    stored: str | None, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def fetch(*where: Any, **how: Any) -> Path:
        asked.append((*where, how))
        return configured(folder, dtype=stored) / "config.json"

    monkeypatch.setattr(describe, "hub_configuration", fetch)
    entry = described("someone/tiny-gpt2", revision="v1", download=False)
    assert asked == [("someone/tiny-gpt2", "v1", {"download": False})]
    assert (entry.name, entry.source, entry.folder, entry.revision) == ("someone/tiny-gpt2",) * 2 + (None, "v1")
    assert entry.dtype == told
    assert entry.download_bytes == entry.parameters * (4 if told == "float32" else 2)


def test_no_weight_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", None)
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert described(str(folder)).layers == 3


def test_an_older_configuration_calls_the_dtype_otherwise(folder: Path) -> None:
    assert described(str(configured(folder, dtype=None, torch_dtype="bfloat16"))).dtype == "bfloat16"


def test_a_folder_goes_by_its_whole_path(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    names = {described(name).name for name in ("gpt2/", "./gpt2", f"{folder}/", "link") if name != "gpt2"}
    assert names == {str(folder.resolve())}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, None),
        ({"model_type": "no-such-thing"}, "no-such-thing"),
        ({"model_type": None}, None),
        ({"n_positions": None, "max_position_embeddings": 0}, "max_position_embeddings"),
        ({"n_head": 7}, None),
        ({"n_layer": "three"}, None),
        ({"n_embd": -24}, None),
        ({"dtype": ["float32"]}, None),
    ],
)
def test_a_folder_whose_keys_cannot_be_read_is_refused(change: dict[str, Any], told: str | None, folder: Path) -> None:
    with pytest.raises((ModelError, UnsupportedArchitecture), match=told):
        described(str(configured(folder, **change)))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'"x"', b"{}", b"[" * 100_000])
def test_a_damaged_configuration_is_refused(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelError):
        described(str(folder))


def test_no_code_of_a_folder_is_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('run')\n")
    mapped = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    with pytest.raises(ModelError):
        described(str(configured(folder, model_type="evil", auto_map=mapped)))
    assert described(str(configured(folder, model_type="gpt2", auto_map=mapped))).layers == 3, "what is known is known"


def test_a_folder_without_a_configuration_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        described(str(tmp_path))


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_hostile_names_are_refused_or_asked_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, *_: Any, **__: Any) -> Path:
        assert not any(mark in name for mark in ("..", "~", "$", "\\", "\0", " "))
        raise NotHere("no")

    monkeypatch.setattr(describe, "hub_configuration", absent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        described(name)
    assert len(str(caught.value)) < 500


def test_what_is_not_here_stays_away(folder: Path) -> None:
    with pytest.raises(NotHere):
        described("someone/never-seen", download=False)
    shutil.rmtree(folder)
    with pytest.raises(ModelError):
        described(str(folder))
