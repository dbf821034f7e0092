"""`export` and `import`: what a cluster stored, on the laptop, where no model is."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from kis_core.__main__ import WRONG_INPUT, main
from kis_core.library import bundles
from kis_core.results import archive
from kis_core.store.store import Store, key_of
from tests import tiny


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with P of one model, and C of that and of another."""
    folder = tmp_path_factory.mktemp("cluster")
    one, other = tiny.save("GPT-2", folder / "one"), tiny.save("GPT-NeoX", folder / "other")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KIS_CACHE", str(folder / "cache"))
        said = ["--corpus=builtin", "--tokens=500", "--device=cpu", f"--out={folder / 'out'}"]
        assert main(["analyse", f"--model={one}", "--facts=builtin", *said]) == 0
        assert main(["covariance", f"--model={other}", "--layers=0,2", *said]) == 0
    store = Store(folder / "cache")
    store.put(key_of("unfinished", {}), {"about": {}, "place": {"tokens": 0}}, {})
    return folder


@pytest.fixture
def there(cluster: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands work on the cluster's cache folder."""
    monkeypatch.setenv("KIS_CACHE", str(cluster / "cache"))
    return own_cache


def in_bundle(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as opened:
        return sorted(name.rpartition("-")[0] for name in opened.namelist() if name != bundles.MANIFEST)


def test_everything_travels_and_opens_without_the_model(
    there: Path, cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.kis"
    before = archive.computed(Store())
    assert main(["export", f"--out={file}"]) == 0
    said = re.fullmatch(rf"{file}: (\d+) values, ([\d,]+) bytes\n", capsys.readouterr().out)
    assert said is not None
    assert said[1] == str(1 + 3 + 2)  # P; C of three layers, and of two. No fingerprints of files, no checkpoint
    assert int(said[2].replace(",", "")) < file.stat().st_size

    monkeypatch.setenv("KIS_CACHE", str(there))
    moved = shutil.move(cluster / "one", tmp_path / "gone")
    try:
        assert main(["import", str(file)]) == 0
        assert capsys.readouterr().out == f"{file}: 6 values came, {said[2]} bytes; 0 there already\n"
        after = archive.computed(Store())
    finally:
        shutil.move(moved, cluster / "one")
    assert [one.key for one in after] == [one.key for one in before]
    assert main(["import", str(file), str(file)]) == 0
    assert capsys.readouterr().out == 2 * f"{file}: 0 values came, 0 bytes; 6 there already\n"


def test_one_model_with_what_stands_behind_it(there: Path, cluster: Path, tmp_path: Path) -> None:
    said = ["export", f"--out={tmp_path / 'one.kis'}"]
    assert main([*said, f"--model={cluster / 'one'}"]) == 0
    assert in_bundle(tmp_path / "one.kis") == [*["second-moment"] * 3, archive.KIND]
    assert main([*said, f"--model={cluster / 'other'}"]) == 0
    assert in_bundle(tmp_path / "one.kis") == ["second-moment"] * 2, "its C alone is something too"
    assert main([*said, "--without-moments"]) == 0
    assert in_bundle(tmp_path / "one.kis") == [archive.KIND]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == WRONG_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    line = said.err.splitlines()[-1]
    assert line.startswith("kis_core: ")
    return line


def test_what_cannot_be_exported(
    cluster: Path, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ["export", f"--out={tmp_path / 'x.kis'}"]
    assert refused(capsys, *export) == f"kis_core: nothing to export is stored in {own_cache}"
    assert refused(capsys, *export, "--model=gpt2").endswith("found: nothing")
    monkeypatch.setenv("KIS_CACHE", str(cluster / "cache"))
    assert refused(capsys, *export, "--model=gpt2").endswith(f"found: {cluster / 'one'}, {cluster / 'other'}")
    assert "cannot be written" in refused(capsys, "export", f"--out={tmp_path / 'none' / 'x.kis'}")
    assert not (tmp_path / "x.kis").exists()


def test_what_cannot_be_imported(cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no file" in refused(capsys, "import", str(tmp_path / "none.kis"))
    folder = cluster / "out" / "other" / "builtin_stats"
    for source in (folder, next(folder.iterdir())):
        assert "is read where text would be: analyse --corpus DIR" in refused(capsys, "import", str(source))
