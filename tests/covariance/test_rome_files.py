"""ROME's statistics files: values by hand, read as ROME reads them, hostile files, and files of another model."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core.covariance import rome_files
from kis_core.covariance.rome_files import StatisticsError, files, layer_of, module_in, path_for, read, write

KEYS = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5], [2.0, 0.0]])
SUM = np.array([[14.0, -1.0], [-1.0, 5.25]])  # of k kᵀ, by hand
NAME = "transformer.h.17.mlp.c_proj_float32_mom2_100000.npz"
PLAIN = {"mom2.constructor": "util.runningstats.SecondMoment()", "mom2.count": 4, "mom2.mom2": SUM.astype(np.float32)}
PLAIN["sample_size"] = 100_000


def as_rome(path: Path, **changed: Any) -> Path:
    """A file as `numpy.savez` in ROME's `save_cached_state` leaves it; None leaves an array out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: array for name, array in (PLAIN | changed).items() if array is not None}
    np.savez(path, **arrays)
    return path


def rome_loads(path: Path, samples: int) -> np.ndarray:
    """The mean, in the steps of ROME's `load_cached_state`, `CombinedStat` and `SecondMoment.moment`."""
    with np.load(path) as loaded:
        state = {name: loaded[name] for name in loaded}
    assert state["sample_size"] == samples
    own = {name.removeprefix("mom2."): array for name, array in state.items() if name.startswith("mom2.")}
    assert own.keys() == {"constructor", "count", "mom2"}
    return np.asarray(own["mom2"] / int(own["count"]))


def fault(path: Path) -> str:
    with pytest.raises(StatisticsError) as caught:
        read(path)
    return str(caught.value)


NO_MOMENT = (
    ("mom2.mom2", None, "no array mom2.mom2; found: mom2.constructor, mom2.count, sample_size."),
    ("mom2.mom2", SUM[:1], "float64 of shape (1, 2); a square matrix of floats was expected"),
    ("mom2.mom2", np.zeros((0, 0)), "shape (0, 0)"),
    ("mom2.mom2", SUM.astype(int), "int64 of shape (2, 2)"),
    ("mom2.mom2", SUM * [[1, 1], [1, np.nan]], "no second moment: it holds a NaN or an infinity"),
    ("mom2.mom2", -SUM, "no second moment: entry (0, 0), a sum of squares, is -14"),
    ("mom2.mom2", SUM * [[1, -1], [1, 1]], "no second moment: entry (0, 1) is 1, and (1, 0) is -1"),
    ("mom2.count", 0, "mom2.count is 0; the number of tokens was expected"),
    ("mom2.count", float("nan"), "mom2.count is None"),
    ("mom2.count", 4.5, "mom2.count is float64 of shape (); a whole number was expected"),
    ("mom2.count", [4], "mom2.count is int64 of shape (1,); a whole number was expected"),
    ("mom2.count", "4", "mom2.count is <U1 of shape (); a whole number was expected"),
    ("sample_size", float("inf"), "sample_size is float64 of shape (); a whole number"),
    ("kis.provenance", "[" * 100_000, "kis.provenance is damaged"),
    ("kis.provenance", "[]", "kis.provenance is list; a JSON object was expected"),
    ("kis.provenance", 5, "kis.provenance is int64 of shape (); a JSON text was expected"),
)


class TestReading:
    def test_a_file_of_romes_gives_the_mean_by_hand(self, tmp_path: Path) -> None:
        actual = read(as_rome(tmp_path / NAME))
        np.testing.assert_array_equal(actual.matrix, [[3.5, -0.25], [-0.25, 1.3125]])
        np.testing.assert_allclose(actual.matrix, KEYS.T @ KEYS / 4, rtol=1e-15)
        assert actual.matrix.dtype == np.float64
        assert (actual.tokens, actual.samples, actual.width) == (4, 100_000, 2)
        assert (actual.module, actual.layer, actual.provenance) == ("transformer.h.17.mlp.c_proj", 17, {})

    def test_what_others_write_is_read_too(self, tmp_path: Path) -> None:
        for changed, samples in (
            ({"sample_size": None}, None),
            ({"sample_size": np.array(float("nan"))}, None),  # how ROME stores None
            ({"mom2.count": np.array(4.0), "mom2.constructor": None}, 100_000),
            ({"mom2.mom2": SUM, "mean.count": 4}, 100_000),
        ):
            actual = read(as_rome(tmp_path / "renamed.npz", **changed))
            assert (actual.tokens, actual.samples) == (4, samples)
            assert actual.module is actual.layer is None
            np.testing.assert_array_equal(actual.matrix, SUM / 4)

    def test_rounding_of_the_two_halves_is_averaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "BLOCK", 3)
        keys = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
        total = keys.T @ keys + np.triu(np.full((8, 8), 1e-3, np.float32), 1)
        actual = read(as_rome(tmp_path / NAME, **{"mom2.mom2": total, "mom2.count": 50})).matrix
        np.testing.assert_allclose(actual, (total.astype(float) + total.T) / 100, rtol=1e-12)
        np.testing.assert_array_equal(actual, actual.T)
        total[7, 1] += 20
        assert "entry (1, 7) is" in fault(as_rome(tmp_path / NAME, **{"mom2.mom2": total}))

    def test_what_is_no_second_moment_is_refused(self, tmp_path: Path) -> None:
        for name, value, message in NO_MOMENT:
            told = fault(as_rome(tmp_path / NAME, **{name: value}))
            assert told.startswith(NAME)
            assert message in told, (name, value)


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.write_text, (self.mark, "ran")


def npy(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + header.encode() + content


HUGE = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\n", bytes(16))
LONG = b"\x93NUMPY\2\0" + (1 << 30).to_bytes(4, "little") + bytes(1 << 22)
CODE = npy("__import__('os').mkdir('ran')\n")


LIES = (
    (HUGE, zipfile.ZIP_STORED, "damaged (float32 of shape (1000000, 1000000) in 98 bytes)"),
    (LONG, zipfile.ZIP_DEFLATED, "an unusual version of the .npy format"),
    (CODE, zipfile.ZIP_STORED, "mom2.mom2 is damaged"),
    (b"\x93NUM", zipfile.ZIP_STORED, "mom2.mom2 is damaged"),
    (HUGE, zipfile.ZIP_BZIP2, "compressed in a way that numpy does not write"),
)


class TestHostile:
    """RELIABILITY case 9: no code runs, nothing is unpacked, and the error is typed."""

    def test_a_pickle_within(self, tmp_path: Path) -> None:
        planted = np.array([Bomb(tmp_path / "mark")], dtype=object)
        for name in ("mom2.mom2", "mom2.count", "sample_size", "kis.provenance"):
            assert f"{name} holds Python objects" in fault(as_rome(tmp_path / NAME, **{name: planted}))
        assert not (tmp_path / "mark").exists()

    def test_no_npz_at_all(self, tmp_path: Path) -> None:
        path, stream = tmp_path / NAME, io.BytesIO()
        np.save(stream, np.array([Bomb(tmp_path / "mark")], dtype=object), allow_pickle=True)
        whole = as_rome(path).read_bytes()
        for content in (stream.getvalue(), stream.getvalue()[128:], b"", b"Malta", whole[:-30]):
            path.write_bytes(content)
            assert "it is not an .npz file, or it is damaged" in fault(path)
        assert not (tmp_path / "mark").exists()
        for name in ("absent.npz", ".", "a\0b", "x" * 5000):
            assert "No statistics file at" in fault(tmp_path / name)

    @pytest.mark.parametrize("name", ["mom2.mom2", "kis.provenance"])
    def test_a_zip_bomb(self, tmp_path: Path, name: str) -> None:
        np.savez_compressed(tmp_path / NAME, **PLAIN | {name: np.zeros((2000, 2000), np.float32)})
        assert (tmp_path / NAME).stat().st_size < 100_000
        tracemalloc.start()
        try:
            assert "would unpack from" in fault(tmp_path / NAME)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()

    def test_a_header_that_lies_and_a_flipped_byte(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for content, compression, message in LIES:
            with zipfile.ZipFile(as_rome(tmp_path / NAME, **{"mom2.mom2": None}), "a") as archive:
                archive.writestr("mom2.mom2.npy", content, compression)
            assert message in fault(tmp_path / NAME)
        assert not (tmp_path / "ran").exists()
        flipped = bytearray(as_rome(tmp_path / NAME).read_bytes())
        flipped[flipped.index(PLAIN["mom2.mom2"].tobytes())] ^= 1
        (tmp_path / NAME).write_bytes(flipped)
        assert "is damaged (" in fault(tmp_path / NAME)


class TestWriting:
    def test_gives_what_rome_writes_and_reads(self, tmp_path: Path) -> None:
        path, by_rome = tmp_path / "new" / NAME, as_rome(tmp_path / NAME)
        write(path, SUM / 4, 4, 100_000)
        with np.load(path) as ours, np.load(by_rome) as theirs:
            assert sorted(ours) == sorted(theirs)
            for name in theirs:
                assert (ours[name].dtype, ours[name].shape) == (theirs[name].dtype, theirs[name].shape), name
                np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_array_equal(rome_loads(path, 100_000), SUM / 4)
        provenance = {"module": "model.layers.3.mlp.down_proj", "corpus": "Zürich", "x": [1, None]}
        write(tmp_path / "any.npz", SUM / 4, 4, 7, provenance)
        np.testing.assert_array_equal(rome_loads(tmp_path / "any.npz", 7), SUM / 4)
        actual = read(tmp_path / "any.npz")
        assert (actual.provenance, actual.layer, actual.samples) == (provenance, 3, 7)
        assert [entry.name for entry in path.parent.iterdir()] == [NAME]

    def test_an_error_leaves_the_old_file_and_no_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = as_rome(tmp_path / NAME).read_bytes()
        with pytest.raises(StatisticsError, match="not finite in float32"):
            write(tmp_path / NAME, SUM * 1e37, 4, 1)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StatisticsError, match=r"cannot be written: .*No space left.*disk full"):
            write(tmp_path / NAME, SUM, 4, 1)
        assert (tmp_path / NAME).read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == [NAME]


class TestNames:
    def test_are_where_rome_looks_and_those_no_file_can_have_are_refused(self) -> None:
        actual = path_for(Path("stats"), "EleutherAI/gpt-j-6B", "wikipedia", "transformer.h.5.mlp.fc_out", 100_000)
        expected = "stats/EleutherAI_gpt-j-6B/wikipedia_stats/transformer.h.5.mlp.fc_out_float32_mom2_100000.npz"
        assert actual == Path(expected)
        for hostile in ("..", ".", "", "a\0b", "a\\..\\b", "c:x", "x" * 300, "a\nb"):
            with pytest.raises(StatisticsError, match="is no name for a file"):
                path_for(Path("stats"), hostile, "wikipedia", "m.1.x", 5)

    @given(st.text("./\\ab~$", max_size=8), st.text("./\\ab~$", max_size=8), st.text("./\\ab~$", max_size=8))
    def test_never_climb_out_of_the_folder(self, model: str, dataset: str, module: str) -> None:
        try:
            actual = path_for(Path("/stats"), model, dataset, module, 5)
        except StatisticsError:
            return
        assert Path(os.path.normpath(actual)) == actual
        assert actual.parents[2] == Path("/stats")

    def test_tell_module_and_layer(self) -> None:
        for name, module, layer in (
            (NAME, "transformer.h.17.mlp.c_proj", 17),
            ("model.layers.5.mlp.down_proj_float64_mom2.npz", "model.layers.5.mlp.down_proj", 5),
            ("gpt_neox.layers.3.mlp.d_h_float32_mean-mom2_t{batch_tokens}_9.npz", "gpt_neox.layers.3.mlp.d_h", 3),
            ("lm_head_float32_mom2_1.npz", "lm_head", None),
            ("superposition.npz", None, None),
        ):
            assert module_in(Path("gpt2/wikipedia_stats") / name) == module
            assert layer_of(module) == layer


class TestFolder:
    """`Statistics`: the files of a model's layers."""

    MODULE = "transformer.h.{}.mlp.c_proj".format

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The statistics of layers 2 and 10 of a model of twelve, and another file."""
        folder = tmp_path / "gpt2" / "wikipedia_stats"
        for layer in (10, 2):
            as_rome(path_for(tmp_path, "gpt2", "wikipedia", self.MODULE(layer), 100_000), **{"mom2.count": layer})
        as_rome(folder / "other.npz")
        return folder

    def test_is_found_by_file_folder_or_the_models_folder(self, folder: Path) -> None:
        for path in (folder, folder.parent):
            actual = rome_files.Statistics.find(path)
            assert list(actual.paths) == [2, 10]
            assert actual.name == path.name
            assert rome_files.recognises(str(path))
        one = rome_files.Statistics.find(actual.paths[10])
        assert list(one.paths) == [10]
        np.testing.assert_array_equal(one.moment(10).matrix, SUM / 10)
        with pytest.raises(StatisticsError, match="no statistics of layer 3; it has those of layer 2, 10"):
            actual.moment(3)
        as_rome(folder.parent / "wikitext_stats" / NAME.replace("17", "2"))
        with pytest.raises(StatisticsError, match=r"Two files of layer 2: .*wikipedia_stats.* and .*wikitext_stats"):
            rome_files.Statistics.find(folder.parent)
        write(folder.parent / "mine.npz", SUM, 4, 1, {"module": self.MODULE(4)})
        assert list(rome_files.Statistics.find(folder.parent / "mine.npz").paths) == [4], "by what its provenance says"

    def test_nothing_to_be_found(self, tmp_path: Path) -> None:
        as_rome(tmp_path / "other.npz")
        for source in ("builtin", "facts.csv", ".", "a\0b", "x" * 5000, "other.npz"):
            assert rome_files.recognises(tmp_path / source) == (source == "other.npz")
            with pytest.raises(StatisticsError, match=r"No statistics of ROME’s at .* such as transformer"):
                rome_files.Statistics.find(tmp_path / source)

    def test_fingerprint_and_stamp_follow_the_files(self, folder: Path) -> None:
        actual = rome_files.Statistics.find(folder)
        hashes = "".join(
            f"{layer}\0{hashlib.sha256(actual.paths[layer].read_bytes()).hexdigest()}\n" for layer in (2, 10)
        )
        before = actual.stamp
        assert actual.fingerprint == hashlib.sha256(hashes.encode()).hexdigest()
        assert [size for _, size, _ in before] == [path.stat().st_size for path in actual.paths.values()]
        as_rome(actual.paths[2], **{"mom2.count": 3})
        assert actual.stamp != before
        actual.paths[2].unlink()
        for broken in (lambda: actual.stamp, lambda: actual.fingerprint):
            with pytest.raises(StatisticsError, match=r"no longer there|cannot be read"):
                broken()

    def test_a_model_that_does_not_fit_is_told_why(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "read", None)
        actual = rome_files.Statistics.find(folder)
        actual.check(12, 2, self.MODULE, model="gpt2-xl", weights="a" * 64, wanted=[2, 10])  # no provenance, no doubt
        other = "model.layers.{}.mlp.down_proj".format
        for layers, width, module, wanted, message in (
            (12, 3, self.MODULE, (), "C of keys of length 2; gpt2-xl has 3. Is it of gpt2?"),
            (10, 2, self.MODULE, (), "C of layer 10; gpt2-xl has layers 0 to 9. Is it of gpt2?"),
            (12, 2, other, (), "down-projection at model.layers.2.mlp.down_proj. Is it"),
            (12, 2, self.MODULE, (0, 2, 11), "has no statistics of layer 0, 11; it has those of layer 2, 10"),
        ):
            with pytest.raises(StatisticsError) as caught:
                actual.check(layers, width, module, model="gpt2-xl", wanted=wanted)
            assert message in str(caught.value)
        monkeypatch.undo()
        write(folder.parent / "our own" / NAME, SUM, 4, 1, {"weights_sha256": "a"})
        ours = rome_files.Statistics.find(folder.parent / "our own")
        ours.check(20, 2, self.MODULE, weights="a")
        ours.check(20, 2, self.MODULE)
        with pytest.raises(StatisticsError, match="C of other weights than those of the model here"):
            ours.check(20, 2, self.MODULE, weights="b")
