"""`covariance`: C into the store and into ROME's files; again after a kill, and by several processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from kis_core import corpora
from kis_core.__main__ import INTERRUPTED, WRONG_INPUT, main
from kis_core.analysis import pipeline
from kis_core.analysis.second_moments import read
from kis_core.commands import covariance as command
from kis_core.commands import options
from kis_core.covariance import checkpoint, ranks, rome_files
from kis_core.covariance.layer_sums import LayerSums
from kis_core.request import Request, RequestError
from kis_core.store.store import Store
from tests import covariance_workers, tiny

ROOT = Path(__file__).resolve().parents[2]
TOKENS = 3000
MODULE = "transformer.h.{}.mlp.c_proj"
SHARED = {"rtol": 1e-6, "atol": 1e-6}  # sums of several processes, in another order and then in float32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("GPT-2", tmp_path_factory.mktemp("models") / "tiny-gpt2")


def arguments(model: Path, out: Path, name: str = "covariance", /, **changed: object) -> list[str]:
    chosen = {"model": model, "corpus": "builtin", "tokens": TOKENS, "device": "cpu", "out": out} | changed
    return [name, *(f"--{option}={value}" for option, value in chosen.items() if value is not None)]


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """What one process writes that nobody disturbs, and how many batches it takes."""
    out, cache = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("cache")
    taken = []
    forward = LayerSums._forward
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KIS_CACHE", str(cache))
        patched.setattr(LayerSums, "_forward", lambda *given: taken.append(forward(*given)))
        assert main(arguments(model, out)) == 0
    return out, len(taken)


@pytest.fixture
def alone(undisturbed: tuple[Path, int]) -> Path:
    return undisturbed[0]


@pytest.fixture
def batches(undisturbed: tuple[Path, int]) -> int:
    return undisturbed[1]


def files(out: Path) -> dict[str, Path]:
    return {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}


def contents(out: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files(out).items()}


def assert_equal(one: Path, other: Path) -> None:
    """The same layers, counts and provenance, and sums but for rounding."""
    assert files(one).keys() == files(other).keys()
    for name in files(one):
        a, b = rome_files.read(one / name), rome_files.read(other / name)
        assert (a.tokens, a.samples, a.provenance) == (b.tokens, b.samples, b.provenance)
        np.testing.assert_allclose(a.matrix, b.matrix, **SHARED)


@pytest.fixture
def no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, a pass over the text fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the text is read once more")

    monkeypatch.setattr("kis_core.covariance.passes.Pass.run", refuse)


def test_one_file_a_layer_where_rome_looks_for_it_says_where_it_comes_from(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(model, tmp_path / "out", layers="0,2")) == 0
    printed = [Path(row) for row in capsys.readouterr().out.splitlines()]
    [samples] = {rome_files.read(path).samples for path in printed}
    folder = tmp_path / "out" / "tiny-gpt2" / "builtin_stats"
    assert printed == [folder / f"{MODULE.format(layer)}_float32_mom2_{samples}.npz" for layer in (0, 2)]
    assert list(files(tmp_path / "out").values()) == printed
    ingredients = pipeline.resolve(Request(str(model), tokens=TOKENS), Store())
    for layer, path in zip((0, 2), printed, strict=True):
        stored, written = read(ingredients, layer, Store()), rome_files.read(path)
        assert stored is not None
        assert (written.tokens, written.samples) == (stored.tokens, stored.reading["documents"]) == (TOKENS, samples)
        np.testing.assert_allclose(written.matrix, stored.matrix, **SHARED)
    assert read(ingredients, 1, Store()) is None

    said = dict(rome_files.header(printed[1]).provenance)
    assert said["weights_sha256"] == ingredients.weights
    assert said["corpus_sha256"] == ingredients.text
    assert (said["model"], said["layer"], said["module"]) == ("tiny-gpt2", 2, MODULE.format(2))
    assert (said["corpus"], said["tokens_requested"], said["tokens_counted"]) == ("builtin", TOKENS, TOKENS)
    assert (said["documents_requested"], said["revision"], said["moment_dtype"]) == (None, None, "float32")
    assert len(said["documents_sha256_sum"]) == 64
    assert said["versions"]["torch"] == torch.__version__
    assert str(model.parent) not in str(said), "nothing of this machine"


def test_a_second_run_computes_nothing(
    model: Path, alone: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert main(arguments(model, tmp_path / "out")) == 0
    request.getfixturevalue("no_pass")
    assert main(arguments(model, tmp_path / "out")) == 0
    assert main(arguments(model, tmp_path / "another", layers="1")) == 0
    assert contents(tmp_path / "out") == contents(alone)
    [name] = files(tmp_path / "another")
    assert (tmp_path / "another" / name).read_bytes() == contents(alone)[name]


def test_an_analysis_and_an_edit_take_the_c_that_is_there(
    model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(corpora.builtin().texts[:40]), encoding="utf-8")
    assert main(arguments(model, tmp_path / "out", corpus=text, tokens=None)) == 0
    assert {path.parent.name for path in files(tmp_path / "out").values()} == {"text_stats"}
    request.getfixturevalue("no_pass")
    same = {"corpus": text, "tokens": "all"}
    assert main(arguments(model, tmp_path / "p", "analyse", facts="builtin", **same)) == 0
    edit = {"layer": 0, "fact": 1, "target": "French", "method": "identity", "steps": 1}
    assert main(arguments(model, tmp_path / "edit", "edit", **same, **edit)) == 0


def test_the_files_are_a_corpus(
    model: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_pass: None
) -> None:
    folder = alone / "tiny-gpt2" / "builtin_stats"
    assert main(arguments(model, tmp_path / "out", corpus=folder, tokens=None)) == 0
    assert capsys.readouterr().out.splitlines() == [str(path) for path in files(folder).values()]
    assert files(tmp_path / "out") == {}, "they are there already"
    assert main(arguments(model, tmp_path / "p", "analyse", facts="builtin", corpus=folder, tokens=None)) == 0
    with np.load(tmp_path / "p" / "superposition.npz") as stored:
        assert stored["p"].shape == (3, 128, 128)


def test_reading_ends_once_p_has_settled(model: Path, tmp_path: Path) -> None:
    assert main(arguments(model, tmp_path / "out", tokens=None, settled=0.9)) == 0
    headers = [rome_files.header(path) for path in files(tmp_path / "out").values()]
    [(samples, settled)] = {(header.samples, header.provenance["settled"]) for header in headers}
    assert settled is True
    assert samples in (3 * 512, 4 * 512), "three looks, each after 512 documents and at half as many tokens more"


def test_how_much_is_read() -> None:
    said = {"model": "m", "facts": "builtin", "corpus": "builtin", "tokens": None, "documents": None}
    of_the_model = {"revision": "abc", "dtype": "bfloat16", "settled": 0.1}
    for given, default, tokens, documents in (
        ({}, None, None, None),
        ({}, 100, 100, None),
        ({"corpus": "wikipedia", "tokens": 7}, 100, 7, 100_000),
        ({"corpus": "wikipedia", "documents": "all"}, 100, None, None),
        ({"documents": 5}, 100, None, 5),
        ({"tokens": "all"}, 100, None, None),
    ):
        actual = options.request_of(Namespace(**said | of_the_model | given), layers=(2, 0), tokens=default)
        assert (actual.tokens, actual.documents) == (tokens, documents), given
        assert (actual.revision, actual.dtype, actual.settled, actual.layers) == ("abc", "bfloat16", 0.1, (0, 2))


def test_interrupted_it_goes_on_and_writes_the_same_bytes(
    model: Path, alone: Path, batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, taken = LayerSums._forward, []

    def interrupted_once(*given: object) -> None:
        taken.append(given)
        if len(taken) == 3:
            raise KeyboardInterrupt
        forward(*given)

    monkeypatch.setattr(LayerSums, "_forward", interrupted_once)
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "WRITING_SHARE", float("inf"))  # a checkpoint after every batch
    assert main(arguments(model, tmp_path / "out")) == INTERRUPTED
    assert files(tmp_path / "out") == {}
    assert main(arguments(model, tmp_path / "out")) == 0
    assert len(taken) == batches + 1, "the one begun when it was interrupted is taken again"
    assert contents(tmp_path / "out") == contents(alone)
    kinds = {item.kind for item in Store().inventory()}
    assert kinds == {"second-moment", "fingerprint"}, "no checkpoint is left"


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun would start us, but that nobody else is there, and that leaving can be seen."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "together", lambda _: nullcontext(ranks.Share(1, 2)))

    def leave(status: int) -> NoReturn:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)


@pytest.mark.usefixtures("second_of_two")
def test_several_processes_do_not_wait_for_p_to_settle(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for agree in ("agreed", "least"):
        monkeypatch.setattr(ranks.Share, agree, lambda _, own, device: own)
    with pytest.raises(SystemExit):
        main(arguments(model, tmp_path / "out", settled=0.1))
    assert "one process alone; leave `settled` out" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestError("no such fact"), "kis_core, process 1: no such fact"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc] closed"), "kis_core, process 1: another process ended before"),
        (RuntimeError("a fault of our own"), None),
    ],
)
def test_an_error_of_one_of_several_processes_ends_it_at_once(
    error: Exception, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of our own is raised; all else leaves without waiting for the others."""
    with pytest.raises(RuntimeError if said is None else SystemExit) as ended, command._processes("cpu"):
        raise error
    assert capsys.readouterr().err.startswith(said or "")
    assert said is None or ended.value.code == WRONG_INPUT


@pytest.mark.stress
class TestProcesses:
    """Of their own: to be killed, or to share the work."""

    def ran(self, tmp_path: Path, said: list[str], world: int = 1, **ends: dict[str, object]) -> list[tuple[int, str]]:
        """Exit status and words of each process; `ends` tells how one of them ends early."""
        port = covariance_workers.free_port()
        started = [
            covariance_workers.start(
                said, tmp_path / "cache", tmp_path / f"said{rank}", rank=rank, world=world, port=port,
                **ends.get(f"process{rank}", {}),
            )
            for rank in range(world)
        ]  # fmt: skip
        for process in started:
            process.join(covariance_workers.SECONDS)
        return [(process.exitcode, (tmp_path / f"said{k}").read_text()) for k, process in enumerate(started)]

    def taken(self, tmp_path: Path, rank: int = 0) -> int:
        return int((tmp_path / f"said{rank}.batches").read_text())

    def test_two_share_the_work_also_after_a_kill(self, model: Path, alone: Path, batches: int, tmp_path: Path) -> None:
        said = arguments(model, tmp_path / "out")
        (first, words), (second, _) = self.ran(tmp_path, said, 2, process1={"batch": 3, "end": "killed"})
        assert (first, second) == (WRONG_INPUT, -signal.SIGKILL)
        assert words.splitlines()[-1].startswith("kis_core, process 0: another process ended")
        (first, words), (second, silence) = self.ran(tmp_path, said, 2)
        assert (first, second, silence) == (0, 0, ""), words
        assert (self.taken(tmp_path), self.taken(tmp_path, 1)) == (0, batches // 2 - 2), "the first had taken its own"
        assert_equal(tmp_path / "out", alone)
        (first, words), (second, _) = self.ran(tmp_path, said, 2, process1={"end": "not finite"})
        assert (first, second) == (0, 0), "nothing was left to compute"


@pytest.mark.stress
def test_torchrun_gives_what_one_process_gives(model: Path, alone: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "kis_core"]
    ran = subprocess.run(
        [*run, *arguments(model, tmp_path / "out")], cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(path) for path in files(tmp_path / "out").values()], "the first one's alone"
    assert ran.stderr.count("Second moment of the keys") == 1
    assert_equal(tmp_path / "out", alone)
    assert shutil.which("torchrun", path=str(Path(sys.executable).parent)), "the name the documentation gives"
