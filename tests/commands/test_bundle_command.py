"""`export` and `import`: what a cluster stored, on the laptop, where no model is."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from kis_core.__main__ import WRONG_INPUT, main
from kis_core.analysis.pipeline import Request, resolve
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


def kinds(store: Store) -> dict[str, int]:
    found = [item.kind for item in store.inventory()]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def in_bundle(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as opened:
        return sorted(name.rpartition("-")[0] for name in opened.namelist() if name != bundles.MANIFEST)


def test_everything_travels_and_opens_without_the_model(
    there: Path, cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.kis"
    before = archive.computed(Store())
    assert main(["export", f"--out={file}"]) == 0
    told = re.fullmatch(rf"{file}: (\d+) values, ([\d,]+) bytes\n", capsys.readouterr().out)
    assert told is not None
    assert told[1] == str(1 + 3 + 2)  # P; C of three layers, and of two. No fingerprints of files, no checkpoint
    assert int(told[2].replace(",", "")) < file.stat().st_size

    monkeypatch.setenv("KIS_CACHE", str(there))
    moved = shutil.move(cluster / "one", tmp_path / "gone")
    try:
        assert main(["import", str(file)]) == 0
        assert capsys.readouterr().out == f"{file}: 6 values came, {told[2]} bytes; 0 there already\n"
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


def test_without_c_it_is_small(there: Path, cluster: Path, tmp_path: Path) -> None:
    assert main(["export", f"--out={tmp_path / 'p.kis'}", "--without-moments"]) == 0
    assert in_bundle(tmp_path / "p.kis") == [archive.KIND]


def test_an_analysis_takes_the_c_that_came(
    there: Path, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["export", f"--out={tmp_path / 'c.kis'}", f"--model={cluster / 'other'}"]) == 0
    monkeypatch.setenv("KIS_CACHE", str(there))
    assert main(["import", str(tmp_path / "c.kis")]) == 0

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the text is read once more")

    monkeypatch.setattr("kis_core.covariance.passes.Pass.run", refuse)
    said = [f"--model={cluster / 'other'}", "--corpus=builtin", "--tokens=500", "--device=cpu", "--layers=0,2"]
    assert main(["analyse", *said, "--facts=builtin", f"--out={tmp_path / 'out'}"]) == 0
    ingredients = resolve(Request(str(cluster / "other"), tokens=500, layers=(0, 2)), Store())
    assert Store().holds(ingredients.key)


class TestWrongInput:
    def refused(self, capsys: pytest.CaptureFixture[str], *said: str) -> str:
        assert main(list(said)) == WRONG_INPUT
        told = capsys.readouterr()
        assert told.out == ""
        *_, line = told.err.splitlines()
        assert line.startswith("kis_core: ")
        return line

    def test_nothing_is_stored(self, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = self.refused(capsys, "export", f"--out={tmp_path / 'x.kis'}")
        assert line == f"kis_core: nothing to export is stored in {own_cache}"
        line = self.refused(capsys, "export", f"--out={tmp_path / 'x.kis'}", "--model=gpt2")
        assert line.endswith("found: nothing")
        assert not (tmp_path / "x.kis").exists()

    def test_a_model_of_which_nothing_is_stored(
        self, there: Path, cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = self.refused(capsys, "export", f"--out={tmp_path / 'x.kis'}", "--model=gpt2")
        assert line.endswith(f"found: {cluster / 'one'}, {cluster / 'other'}")

    def test_a_place_that_cannot_be_written(
        self, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "cannot be written" in self.refused(capsys, "export", f"--out={tmp_path / 'none' / 'x.kis'}")

    def test_no_bundle(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "There is no file" in self.refused(capsys, "import", str(tmp_path / "none.kis"))
        (tmp_path / "text.kis").write_text("text")
        assert "is no whole bundle" in self.refused(capsys, "import", str(tmp_path / "text.kis"))

    def test_statistics_are_no_bundle_but_a_corpus(self, cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = cluster / "out" / "other" / "builtin_stats"
        for source in (folder, next(folder.iterdir())):
            line = self.refused(capsys, "import", str(source))
            assert "is read where text would be: analyse --corpus DIR" in line

    def test_what_came_before_a_damaged_bundle_stays(
        self, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good, bad = tmp_path / "good.kis", tmp_path / "bad.kis"
        assert main(["export", f"--out={good}", "--without-moments"]) == 0
        bad.write_bytes(good.read_bytes()[:-100])
        monkeypatch.setenv("KIS_CACHE", str(there))
        capsys.readouterr()
        assert main(["import", str(good), str(bad)]) == WRONG_INPUT
        told = capsys.readouterr()
        assert told.out.startswith(f"{good}: 1 value came")
        assert "bad.kis is no whole bundle" in told.err
        assert kinds(Store()) == {archive.KIND: 1}
