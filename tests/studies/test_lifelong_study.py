"""The study of forgetting: `python -m kis_core forgetting`, a row by the trace of its run, and the tables by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kis_core import lifelong, simulator
from kis_core.__main__ import WRONG_INPUT, main
from kis_core.lifelong import Draw, summary
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from kis_core.studies import sequences
from kis_core.studies.forgetting import lifetimes, markdown
from kis_core.studies.sequences import Case, cases
from tests.lifelong import lifelong_tools as tools
from tests.studies.study_tools import tables as tables_of

FILES = ["forgetting.csv", "forgetting.md", "forgetting.png"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> tools.Setting:
    """A model of which nothing but the facts looked at is known, and the cache that all tests here share."""
    folder = tmp_path_factory.mktemp("lifelong")
    return tools.analysed(folder, tools.copied(folder))


@pytest.fixture(autouse=True)
def shared_cache(own_cache: Path, setting: tools.Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIS_CACHE", str(setting.root))


@pytest.fixture(scope="module")
def bench(setting: tools.Setting) -> Iterator[Simulator]:
    """The simulator that the command used."""
    store = Store(setting.root)
    yield simulator.of(setting.result, store, device="cpu")
    store._index.close()


@pytest.fixture
def brief(setting: tools.Setting, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Arguments of a study over little text, whose searches are short."""
    monkeypatch.setattr(lifelong, "ask", partial(lifelong.ask, **tools.QUICK))

    def command(**changed: object) -> list[str]:
        request = setting.result.request
        options = {"models": request.model, "facts": request.facts, "edits": 2, "every": 1, "seeds": 1}
        options |= {"corpus": request.corpus, "tokens": tools.TOKENS}
        options |= {"methods": "rome", "layers": 0, "device": "cpu", "out": setting.root.parent / "study"}
        return ["forgetting", *(f"--{name}={value}" for name, value in (options | changed).items())]

    return command


def test_a_row_is_of_its_run_and_the_files_are_of_the_rows(
    setting: tools.Setting, brief: Callable[..., list[str]], bench: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = setting.root.parent / "study"
    assert main(brief()) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in FILES]
    actual = pd.read_csv(folder / "forgetting.csv")
    assert tuple(actual.columns) == sequences.COLUMNS
    assert actual[["draw", "seed"]].to_numpy().tolist() == [["random", 0], ["most", 0], ["least", 0]]
    assert (actual["shift_error"] < 1e-4).all()
    assert (folder / "forgetting.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "forgetting.md").read_text("utf-8") == markdown(actual)
    for row in actual.to_dict("records"):
        trace = lifelong.known(bench, lifelong.ask(bench, 0, "rome", 2, Draw(row["draw"], row["seed"]), every=1))
        assert trace is not None
        half = summary.half_life(trace)
        assert (row["half_life"], row["reached"]) == (half.edits, half.reached)
        end = int(np.argmax(summary.recall(trace) <= 0.5)) if half.reached else 2
        assert row["efficacy"] == trace.took[: trace.steps[end]].mean()
        assert row["retention"] == summary.retention(trace)[end]
        assert row["drift"] == trace.drift[end, 0]
        early, late = summary.forecasts(trace, 2), summary.forecasts(trace, end)
        for name in ("shift", "subject", "all", "renewed"):
            np.testing.assert_allclose([row[f"early_{name}"], row[f"half_{name}"]], [early[name][0], late[name][0]])


@pytest.mark.stress
def test_a_row_is_of_the_moment_half_is_forgotten_whatever_is_stored(tmp_path: Path) -> None:
    """A run ends when half is forgotten, but not before 10 edits; a stored one may have gone further."""
    bench = tools.analysed(tmp_path).bench(tmp_path / "store")
    row = sequences._row(bench, Case(2, "rome", Draw()), 40, 4)
    trace = lifelong.known(bench, lifelong.ask(bench, 2, "rome", 40, every=4))
    end = int(np.flatnonzero(summary.recall(trace) <= 0.5)[0])
    assert 10 <= trace.edits < 40
    assert trace.steps[end] <= trace.edits
    assert (row["edits"], row["reached"], row["half_life"]) == (trace.edits, True, summary.half_life(trace).edits)
    assert row["efficacy"] == trace.took[: trace.steps[end]].mean()
    assert row["retention"] == (trace.edited_rank[end, : trace.steps[end]] == 1).mean()
    assert row["drift"] == trace.drift[end, 0]
    lifelong.run(bench, lifelong.ask(bench, 2, "rome", 40, every=4))
    assert sequences._row(bench, Case(2, "rome", Draw()), 40, 4) == row


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": "guess"}, "guess"),
        ({"edits": 0}, "from 1 to 2000 edits"),
        ({"every": 0}, "measuring every"),
        ({"layers": "x"}, "--layers takes `all` or numbers"),
        ({"models": "demo-gpt2-33"}, "demo-gpt2-33"),
        ({"seeds": 0}, "at least one seed"),
        ({"layers": "3"}, "it has layers 0 to 2 to edit"),
    ],
)
def test_wrong_input_is_refused_and_writes_nothing(
    brief: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    changed: dict[str, object],
    message: str,
) -> None:
    assert main(brief(out=tmp_path / "nothing here", **changed)) == WRONG_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    [complaint] = [line for line in err.splitlines() if line.startswith("kis_core: ")]
    assert message in complaint
    assert not (tmp_path / "nothing here").exists()


def test_every_method_at_random_and_rome_also_by_superposition() -> None:
    every = list(cases([0, 2], ["memit", "rome"], 2))
    assert every[:4] == [Case(0, name, Draw(seed=seed)) for name in ("memit", "rome") for seed in (0, 1)]
    assert every[4:8] == [Case(0, "rome", Draw(by, seed)) for by in ("most", "least") for seed in (0, 1)]
    assert [case.layer for case in every] == [0] * 8 + [2] * 8
    assert all(case.draw.by == "random" for case in cases([0], ["memit", "identity"], 3))


def made_up() -> pd.DataFrame:
    """Two models; one method that outlives its runs, one case of a single seed, and no run of some kinds."""

    def row(model: str, layer: int, name: str, by: str, seed: int, life: float, **more: Any) -> dict[str, Any]:
        return {
            "model": model, "family": "f", "width": 32, "layer": layer, "method": name, "draw": by, "order": "drawn",
            "seed": seed, "edits": 50, "half_life": life, "reached": True, "efficacy": 0.5, "retention": 0.5,
            "drift": 0.1, "shift_error": 2e-6, "early_shift": 0.1, "early_subject": 0.2,
            "early_all": 0.3, "half_shift": 0.4, "half_subject": 0.5, "half_all": 0.6, "early_renewed": 0.7,
            "half_renewed": 0.8,
        } | more  # fmt: skip

    nan = float("nan")
    rows = [
        row("a|b", 0, "rome", "random", 0, 10.0, efficacy=0.9, early_shift=nan),
        row("a|b", 0, "rome", "random", 1, 40.0, efficacy=0.8, half_all=0.9),
        row("a|b", 0, "memit", "random", 0, 50.0, reached=False, half_shift=nan),
        row("a|b", 0, "memit", "random", 1, 12.5, half_shift=nan, shift_error=7e-5),
        row("a|b", 0, "rome", "most", 0, 8.0),
        row("a|b", 0, "rome", "least", 0, 50.0, reached=False),
        row("c", 2, "rome", "random", 0, 7.4),
    ]
    return pd.DataFrame(rows, columns=list(sequences.COLUMNS))


class TestTables:
    def test_lifetimes(self) -> None:
        lives = lifetimes(made_up()).set_index(["model", "method", "draw"])
        assert len(lives) == 5
        one = lives.loc[("a|b", "rome", "random")]
        assert one["middle"] == pytest.approx(20)
        reach = 12.706204736432095 * np.log(4) / np.sqrt(2) / np.sqrt(2)  # Student's t of one degree
        assert (one["low"], one["high"]) == (pytest.approx(20 * np.exp(-reach)), pytest.approx(20 * np.exp(reach)))
        assert (one["runs"], one["unreached"], one["width"], one["layer"]) == (2, 0, 32, 0)
        assert lives.loc[("a|b", "memit", "random"), "unreached"] == 1

    def test_markdown_by_hand(self) -> None:
        text = markdown(made_up())
        first = "7 runs. Δo and Δe at the layer, forecast against measured: largest relative error 7e-05."
        assert text.splitlines()[0] == first
        interval = "(0–133653)"
        orders = ("most superposed first", "at random", "least superposed first")
        kinds = ("‖Σ p δ‖ (eq. 11)", "first order, subject token", "first order, all tokens",
                 "the same, gradients renewed")  # fmt: skip
        of_a, of_c = {"model": "a|b", "layer": "0"}, {"model": "c", "layer": "2"}
        pairs = ("0.10 / 0.40", "0.20 / 0.50", "0.30 / 0.75", "0.70 / 0.80")
        assert list(tables_of(text).values()) == [
            [of_a | {"ROME": f"20 {interval}", "MEMIT": "> 25"}, of_c | {"ROME": "7", "MEMIT": "–"}],
            [of_a | {"ROME": "85%", "MEMIT": "50%"}, of_c | {"ROME": "50%", "MEMIT": "–"}],
            [
                of_a | dict(zip(orders, ("8", f"20 {interval}", "> 50"), strict=True)),
                of_c | dict(zip(orders, ("–", "7", "–"), strict=True)),
            ],
            [
                of_a | dict(zip(kinds, pairs, strict=True)),
                of_c | dict(zip(kinds, (*pairs[:2], "0.30 / 0.60", pairs[3]), strict=True)),
            ],
            [
                {"method": name, **dict(zip(kinds, means, strict=True)), "runs": runs}
                for name, means, runs in (
                    ("ROME", ("0.40", "0.50", "0.70", "0.80"), "3"),
                    ("MEMIT", ("–", "0.50", "0.60", "0.80"), "2"),
                )
            ],
        ]

    def test_an_order_of_its_own_does_not_count_as_random(self) -> None:
        actual = made_up()
        gentle = actual.assign(order="gentle", half_life=1000.0, half_shift=-1.0)
        with_gentle = pd.concat([actual, gentle[gentle["draw"] == "random"]], ignore_index=True)
        first, both = (list(tables_of(markdown(rows)).values()) for rows in (actual, with_gentle))
        for table in (0, 1, 3, 4):
            assert both[table] == first[table]
