"""`python -m kis_core study` on a demo model: files, tables, one row recomputed on weights really edited, seeds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kis_core import corpora, facts, progress, simulator
from kis_core.__main__ import WRONG_INPUT, main
from kis_core.editing.scores import SCORES
from kis_core.facts import Fact, FactSet
from kis_core.models import catalog, loading
from kis_core.models.loaded import LoadedModel
from kis_core.request import Request, RequestError
from kis_core.scoring.answers import finish_words
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from kis_core.studies import edits
from kis_core.studies.edits import EditStudy
from tests.lifelong.lifelong_tools import FACTS, UNKNOWN, write_facts
from tests.studies.study_tools import tables as tables_of

MODEL = "demo-gpt2-32"
FILES = ["edits.csv", "quality.csv", "flips.csv", "edits.md"]
EDITS, SEED, STEPS, TOKENS = 2, 0, 10, 3000
LAYERS, LAST = 4, 3
FORECASTS = [
    *("all tokens", "subject token", "propagated", "|P|", "largest share of any token", "|Q| (C = I)"),
    *("cosine of keys", "GradSim", "CLaRE", "same last token", "same relation"),
]
ROUNDING = 1e-4  # of log-odds, read in float32 passes one by one and in batches; seen 2e-5


@dataclass(frozen=True)
class Done:
    """A study: its files as tables, and the store it was done with."""

    folder: Path
    edits: pd.DataFrame
    quality: pd.DataFrame
    flips: pd.DataFrame
    text: str


def read(folder: Path) -> Done:
    tables = [pd.read_csv(folder / name) for name in FILES[:3]]
    return Done(folder, *tables, (folder / "edits.md").read_text("utf-8"))


@pytest.fixture(scope="module")
def fact_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty facts the model answers, one it does not, and one whose relation has a single object."""
    path = tmp_path_factory.mktemp("facts") / "facts.csv"
    single = Fact("Vladimir Bukovsky", "{} is a native speaker of", "Russian", "of one")
    write_facts(path, (*facts.builtin().facts[:20], FACTS[UNKNOWN], single))
    return path


@pytest.fixture(scope="module")
def analysed(fact_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the analysis and no edit; less text than a study takes, to save time."""
    folder = tmp_path_factory.mktemp("analysed")
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:400]), "utf-8")
    return folder


@pytest.fixture(scope="module")
def conduct(fact_file: Path, analysed: Path) -> Callable[..., list[Path]]:
    """Run a study into a folder, on a store."""

    def run(folder: Path, store: Path, report: progress.Report = progress.silent, **changed: Any) -> list[Path]:
        options = {"edits": EDITS, "method": "rome", "seed": SEED, "device": "cpu", "how": {"steps": STEPS}} | changed
        request = Request(MODEL, str(fact_file), str(analysed / "corpus.txt"), TOKENS)
        return EditStudy((request,), **options).run(folder, Store(store), report)

    return run


@pytest.fixture(scope="module")
def done(conduct: Callable[..., list[Path]], analysed: Path) -> Done:
    written = conduct(analysed / "out", analysed / "cache")
    assert written == [analysed / "out" / name for name in FILES]
    return read(analysed / "out")


@pytest.fixture(scope="module")
def bench(done: Done, fact_file: Path, analysed: Path) -> Simulator:
    """The simulator that the study used."""
    store = Store(analysed / "cache")
    request = Request(MODEL, str(fact_file), str(analysed / "corpus.txt"), TOKENS)
    return simulator.of(edits.pipeline.run(request, store, device="cpu"), store, device="cpu")


class TestChoice:
    def test_known_facts_with_an_object_of_their_relation(self, bench: Simulator) -> None:
        chosen = edits.choose(bench, 20, SEED)
        assert sorted(fact for fact, _ in chosen) == list(range(20)), "not the one it does not know, nor the single one"
        for fact, target in chosen:
            assert target != bench.facts[fact].target
            assert target in bench.known_facts.new_objects(bench.facts[fact])[:5]

    def test_a_seed_chooses_and_a_larger_study_begins_with_the_smaller(self, bench: Simulator) -> None:
        assert edits.choose(bench, 10, 1) == edits.choose(bench, 10, 1) != edits.choose(bench, 10, 2)
        assert edits.choose(bench, 10, 1)[:4] == edits.choose(bench, 4, 1)
        assert [fact for fact, _ in edits.choose(bench, 10, 1)] != list(range(10))

    def test_too_many_or_none(self, bench: Simulator) -> None:
        with pytest.raises(RequestError, match="21 edits were asked for; 20 of these facts can be edited"):
            edits.choose(bench, 21, SEED)
        with pytest.raises(RequestError, match="at least one edit a layer; 0 were asked for"):
            edits.choose(bench, 0, SEED)
        alone = FactSet("alone", (replace(bench.facts[0], relation=""),))  # of one object nothing is left to draw from
        result = replace(bench.result.subset([0], "alone"), facts=alone)
        with pytest.raises(RequestError, match="1 edit was asked for; 0 of these facts can be edited"):
            edits.choose(Simulator(result, bench.store, bench.load), 1, 0)


class TestFiles:
    def test_rows_are_the_same_edits_in_every_layer_and_every_forecast_of_each(
        self, done: Done, bench: Simulator
    ) -> None:
        assert sorted(path.name for path in done.folder.iterdir()) == sorted(FILES)
        chosen = edits.choose(bench, EDITS, SEED)
        rows = done.edits[["model", "layer", "fact", "target"]].itertuples(index=False, name=None)
        assert list(rows) == [(MODEL, layer, *edit) for layer in range(LAYERS) for edit in chosen]
        expected = [(layer, fact, name) for layer in range(LAST) for fact, _ in chosen for name in FORECASTS]
        assert list(done.quality[["layer", "fact", "forecast"]].itertuples(index=False, name=None)) == expected
        assert set(done.quality["facts"]) == {21}
        expected = [(layer, name) for layer in range(LAST) for name in FORECASTS]
        assert list(done.flips[["layer", "forecast"]].itertuples(index=False, name=None)) == expected
        assert set(done.flips["pairs"]) == {EDITS * 21}

    def test_the_last_layer_does_not_reach(self, done: Done) -> None:
        assert done.edits["reaches"].tolist() == [True] * (EDITS * LAST) + [False] * EDITS
        measured = done.edits.drop(columns=["model", "layer", "fact", "target", "reaches"])
        assert measured[done.edits["layer"] == LAST].isna().all(axis=None)
        of_probes = [name for name in measured if name.startswith(("P", "N", "rephrase", "locality"))]
        counted = measured.drop(columns=["paraphrase", "neighbourhood", *of_probes])  # which not every fact has
        assert counted[done.edits["layer"] < LAST].notna().all(axis=None)


class TestNumbers:
    def test_a_row_recomputed_on_weights_really_edited(self, done: Done, bench: Simulator) -> None:
        row = done.edits[done.edits["flips"] > 0].iloc[0]
        layer, e = int(row["layer"]), int(row["fact"])
        request = bench.request(e, row["target"], layer, steps=STEPS)
        edit = bench.forecast(request).edit
        before = loading.load(catalog.locate(MODEL), device="cpu")
        after = replace(before, model=copy.deepcopy(before.model))
        weight = after.model.transformer.h[layer].mlp.c_proj.weight  # Conv1D stores (in, out)
        weight += torch.from_numpy(np.outer(edit.reach, edit.delta)).float()
        edited = [self.asked(after, fact) for fact in bench.facts]
        known = [self.asked(before, fact) for fact in bench.facts]
        losses = [known[j][0] - edited[j][0] for j in range(len(edited)) if j != e]
        assert row["mean_loss"] == pytest.approx(sum(losses) / len(losses), abs=ROUNDING)
        flipped = {j for j in range(len(edited)) if j != e and edited[j][1] != known[j][1]}
        assert row["flips"] == len(flipped)
        coming = set(bench.forecast(request).flips.by(1.0)) - {e}
        assert (row["flips_forecast"], row["flips_both"]) == (len(coming), len(coming & flipped))
        assert (str(row["efficacy"]) == "True") == (edited[e][1] == row["target"])
        assert row["steps"] == len(bench.value(request).losses) - 1
        success = bench.perform(request).success
        for scores, ends in ((success.scores, ""), (success.scores_before, "_before")):
            for name in SCORES:
                expected = getattr(scores, name)
                assert row[f"{name}{ends}"] == pytest.approx(math.nan if expected is None else expected, nan_ok=True)
        assert row["prompts"] == bench.probes(e).origin
        error = np.abs(bench.forecast(request).shift - bench.perform(request).measured.shift).max()
        assert row["shift_error"] == pytest.approx(error / np.linalg.norm(edit.delta), rel=1e-9)
        assert row["shift_error"] > 0

        scores = bench.scores(bench.forecast(request), bench.perform(request))
        measured = done.quality[(done.quality["layer"] == layer) & (done.quality["fact"] == e)].set_index("forecast")
        others = [j for j in range(len(edited)) if j != e]
        for name in ("all tokens", "propagated", "|P|", "GradSim"):
            line = np.corrcoef(scores[name][others], losses)[0, 1]
            assert measured.loc[name, "pearson"] == pytest.approx(line, abs=ROUNDING)
            assert measured.loc[name, "flips"] == len(flipped)

    def asked(self, loaded: LoadedModel, fact: Fact) -> tuple[float, str]:
        """Log-odds of the right answer, and the first choice as a word; one prompt at a time."""
        prompt = loaded.tokenizer.encode(fact.text)
        whole = loaded.tokenizer.encode(f"{fact.text} {fact.target}")
        with torch.no_grad():
            logits = loaded.model(torch.tensor([whole])).logits[0].double()
        log_p = sum(
            torch.log_softmax(logits[len(prompt) - 1 + k], dim=0)[token].item()
            for k, token in enumerate(whole[len(prompt) :])
        )
        first = int(logits[len(prompt) - 1].argmax())
        return log_p - np.log(-np.expm1(log_p)), finish_words(loaded, [(prompt, first)])[0]

    def test_flips_are_pooled_over_the_edits_of_a_layer(self, done: Done, bench: Simulator) -> None:
        layer = int(done.edits.loc[done.edits["flips"].idxmax(), "layer"])
        flipped, scores = np.array([], dtype=bool), {name: np.array([]) for name in FORECASTS}
        for fact, target in edits.choose(bench, EDITS, SEED):
            request = bench.request(fact, target, layer, steps=STEPS)
            outcome = bench.perform(request)
            flipped = np.append(flipped, np.delete(outcome.flipped, fact))
            for name, score in bench.scores(bench.forecast(request), outcome).items():
                scores[name] = np.append(scores[name], np.delete(score, fact))
        table = done.flips[done.flips["layer"] == layer].set_index("forecast")
        assert set(table["flips"]) == {flipped.sum()}
        for name in ("all tokens", "|P|", "same last token"):
            pairs = [(a, b) for a in scores[name][flipped] for b in scores[name][~flipped]]
            won = sum((a > b) + (a == b) / 2 for a, b in pairs)
            assert table.loc[name, "auc"] == pytest.approx(won / len(pairs), rel=1e-9)


def test_the_tables_have_models_and_layers_as_rows(done: Done) -> None:
    success, scores, *others = tables_of(done.text).values()
    assert len(others) == 4
    assert [(row["model"], row["layer"]) for row in success] == [(MODEL, str(layer)) for layer in range(LAYERS)]
    assert [(row["layer"], row["edits"]) for row in scores] == [(at, f"{EDITS}") for at in ("before", "0", "1", "2")]
    assert scores[1]["ES"] == f"{done.edits.loc[done.edits['layer'] == 0, 'ES'].mean():.0%}"
    assert f"Prompts: {done.edits['prompts'][0]} ({EDITS} edits)." in done.text
    for rows in others:
        assert [(row["model"], row["layer"]) for row in rows] == [(MODEL, str(layer)) for layer in range(LAST)]
        assert list(rows[0])[-len(FORECASTS) :] == FORECASTS
    counts = done.flips.groupby("layer")["flips"].first()
    assert [row["flips"] for row in others[-1]] == [f"{count}" + " (few)" * (count < 10) for count in counts]


class TestCommand:
    @pytest.fixture(autouse=True)
    def brief(self, done: Done, analysed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command works in the same store."""
        monkeypatch.setenv("KIS_CACHE", str(analysed / "cache"))

    def test_makes_the_edits_of_its_seed_by_its_method_in_the_layers_named(
        self, done: Done, bench: Simulator, fact_file: Path, analysed: Path, tmp_path: Path
    ) -> None:
        options = {"facts": fact_file, "out": tmp_path, "models": MODEL, "edits": 1, "seed": 5, "method": "identity"}
        options |= {"corpus": analysed / "corpus.txt", "tokens": TOKENS, "steps": 1, "layers": "0,2"}
        assert main(["study", "--device=cpu", *(f"--{name}={value}" for name, value in options.items())]) == 0
        rows = read(tmp_path).edits
        assert rows["layer"].tolist() == [0, 2]
        row = rows.iloc[0]
        assert row["fact"] != done.edits["fact"][0]
        outcome = bench.perform(bench.request(int(row["fact"]), row["target"], 0, "identity", steps=1))
        losses = -np.delete(outcome.measured.log_odds, row["fact"])
        assert (row["steps"], row["mean_loss"]) == (1, pytest.approx(losses.mean(), rel=1e-9))

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("--edits=100", "100 edits were asked for; 20 of these"),
            ("--layers=1,4,9", f"{MODEL} has layers 0 to 3; 4, 9 cannot be studied"),
            ("--models=nowhere", "nowhere is not on this machine"),
            ("--facts=nowhere.csv", "No fact file at nowhere.csv"),
            ("--out=file", "is a file"),
        ],
    )
    def test_wrong_input_is_refused_and_writes_nothing(
        self,
        fact_file: Path,
        analysed: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        option: str,
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("file").write_text("precious")
        text = [f"--corpus={analysed / 'corpus.txt'}", f"--tokens={TOKENS}"]
        command = ["study", "--device=cpu", f"--models={MODEL}", f"--facts={fact_file}", *text, "--out=out", option]
        assert main(command) == WRONG_INPUT
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err.splitlines()[-1]
        assert not Path("out").exists()
        assert Path("file").read_text() == "precious"
