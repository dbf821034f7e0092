"""Files of `--out`: whole, or as they were; a message that names the file; one way of writing them for all."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from kis_core.files import atomic
from kis_core.files.atomic import NotWritten, replaced
from tests.library.test_bundle_damage import in_a_child

LIBRARY = Path(atomic.__file__).parent
WRITING = re.compile(r"\.(write_bytes|write_text|to_csv|to_parquet)\(|\.open\(\"w")
NO_OUTPUT = {"demo"}  # writes into the project itself, when a developer trains the family anew
ROOM = 10_000  # bytes


def test_files_are_written_and_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    for content in ("a\r\nü", "other"):
        assert atomic.write(folder, {"a.csv": content, "b.npz": b"\0"}) == [folder / "a.csv", folder / "b.npz"]
        assert ((folder / "a.csv").read_bytes(), (folder / "b.npz").read_bytes()) == (content.encode(), b"\0")
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv", "b.npz"]


def full_disk(write: Callable[[], object]) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        write()
    except NotWritten as error:
        return 0 if "big.npz cannot be written" in str(error) and "full" in str(error) else 1
    return 2


def test_a_full_disk_leaves_every_file_of_the_folder_as_it_was(tmp_path: Path) -> None:
    before = {"small.csv": b"old", "big.npz": b"old as well"}
    atomic.write(tmp_path, before)
    after: dict[str, bytes | str] = {"small.csv": "new", "big.npz": b"x" * (ROOM + 1)}
    assert in_a_child(lambda: full_disk(lambda: atomic.write(tmp_path, after))) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_at_the_end_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    atomic.write(tmp_path, {"a": "old"})
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fails)
        with pytest.raises(NotWritten, match=r"a cannot be written: Input/output error"):
            atomic.write(tmp_path, {"a": "new"})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_what_fails_while_it_is_made_leaves_the_old_file(tmp_path: Path) -> None:
    atomic.write(tmp_path, {"a": "old"})
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "a") as stream:  # noqa: PT012 - it fails in its middle
        stream.write(b"half")
        raise KeyboardInterrupt
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_a_link_is_written_through_and_folders_and_devices_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    os.mkfifo(tmp_path / "pipe")
    atomic.write(tmp_path, {"link": "through"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "through"
    for path, told in {tmp_path / "there": "a folder", Path(): "a folder", tmp_path / "pipe": "no plain file"}.items():
        with pytest.raises(NotWritten, match=told), replaced(path):
            pass
    assert (tmp_path / "pipe").is_fifo()


def test_nothing_else_in_the_library_writes_a_file_under_its_final_name() -> None:
    written = [
        f"{path.name}:{number}"
        for path in LIBRARY.rglob("*.py")
        if path.relative_to(LIBRARY).parts[0] not in NO_OUTPUT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (actual := WRITING.search(line)) and '"' not in line[: actual.start()]  # in code, not in a sentence
    ]
    assert written == []


def test_what_a_killed_writer_left_is_swept_a_day_later(tmp_path: Path) -> None:
    abandoned, at_work, another = (tmp_path / f".{name}.part" for name in ("0" * 16, "1" * 16, "of-somebody-else"))
    for path in (abandoned, at_work, another):
        path.touch()
    for path in (abandoned, another):
        os.utime(path, (0, 0))
    atomic.write(tmp_path, {"new": "new"})
    assert {path.name for path in tmp_path.iterdir()} == {at_work.name, another.name, "new"}
