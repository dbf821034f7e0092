"""The size of a model in no catalogue, read from its configuration; hostile names and folders are refused in words."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kis_core.models import catalog, describe
from kis_core.models.architecture import UnsupportedArchitecture
from kis_core.models.describe import described
from kis_core.models.files import ModelError, NotHere
from tests.models.test_catalog import HOSTILE_NAMES


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
        assert (entry.name, entry.source, entry.folder, entry.revision) == ("someone/tiny-gpt2",) * 2 + (None, "v1")
        assert entry.dtype == computed
        assert entry.download_bytes == entry.parameters * (4 if computed == "float32" else 2)


def test_a_folder_goes_by_its_whole_path(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    names = {described(name).name for name in ("gpt2/", "./gpt2", f"{folder}/", "link") if name != "gpt2"}
    assert names == {str(folder.resolve())}


@pytest.mark.parametrize(("field", "value"), [("model_type", "no-such-thing"), ("n_head", 7), ("n_layer", "three")])
def test_an_unreadable_folder_is_refused(field: str, value: object, folder: Path) -> None:
    with pytest.raises(ModelError):
        described(str(configured(folder, **{field: value})))
    with pytest.raises((ModelError, UnsupportedArchitecture), match="BertLMHead"):
        described(str(configured(folder, model_type="bert", architectures=["BertModel"])))


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
