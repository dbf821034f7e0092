"""`python -m kis_core edit`: a table and a record of one edit, the same numbers as elsewhere, warnings before it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from kis_core import corpora, facts, simulator
from kis_core.__main__ import main
from kis_core.analysis import pipeline
from kis_core.editing.scores import SCORES
from kis_core.models import catalog, loading
from kis_core.request import Request, RequestError
from kis_core.spillover import landing
from kis_core.store.store import Store
from tests import tiny
from tests.commands.command_tools import strict
from tests.lifelong.lifelong_tools import write_facts

MODEL = "demo-gpt2-32"
COLUMNS = (
    "index,subject,p,share,shift_predicted,shift_measured,dlogodds_first_order,dlogodds_all_tokens,dlogodds_propagated,"
    "dlogodds_measured,dlogp_measured,answer_before,answer_after"
)
FORECASTS = {
    "all tokens": "dlogodds_all_tokens", "subject token": "dlogodds_first_order", "propagated": "dlogodds_propagated",
}  # fmt: skip
FILES = ["spillover.csv", "edit.json"]
RECORD = [
    *("request", "edited", "hyperparameters_from", "delta_norm", "old_value_norm", "warnings"),
    *(
        "own_key_instead_of_mean_key",
        "largest_share",
        "edited_key",
        "losses",
        "probability_in_search",
        "success",
        "protocol",
    ),
    *("quality", "flips_forecast", "flips_measured", "weights_sha256_before", "weights_sha256_after", "provenance"),
]
TOKENS = 4000  # enough for keys of length 128, so that nothing is said of too few
EDITED = 3
FORMULA = facts.Fact("=SUM(A1)", "{} lies in", "Norway")
FIRST_TOKEN = 6  # "Guyana is a land of"
CHOSEN = (*facts.builtin().facts[:FIRST_TOKEN], facts.builtin().facts[92], FORMULA)
PROGRESS = re.compile(r" *\d+\.\d s  (.+)")
SHIFT = 1e-4  # the measured shift, relative to the largest: it is read off float32 outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts, a text, and the cache that all tests here share, so that the analysis is done once."""
    folder = tmp_path_factory.mktemp("edit")
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:400]), "utf-8")
    write_facts(folder / "facts.csv", CHOSEN)
    return folder


@pytest.fixture(autouse=True)
def shared_cache(own_cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIS_CACHE", str(folder / "cache"))


def arguments(folder: Path, **changed: object) -> list[str]:
    own = {"model": MODEL, "facts": folder / "facts.csv", "corpus": folder / "corpus.txt", "tokens": TOKENS}
    options = own | {"layer": 0, "fact": EDITED, "target": "Nokia", "device": "cpu", "out": folder / "out"} | changed
    return ["edit", *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def flipped(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["index"]) for row in rows if row["answer_before"] != row["answer_after"]]


@pytest.fixture(scope="module")
def written(folder: Path) -> Path:
    """One edit, and beside it the analysis with the same ingredients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIS_CACHE", str(folder / "cache"))
        assert main(arguments(folder, out=folder / "written")) == 0
        shared = [option for option in arguments(folder) if re.match("--(model|facts|corpus|tokens|device)=", option)]
        assert main(["analyse", *shared, f"--out={folder / 'analysis'}"]) == 0
    return folder / "written"


def test_the_table_fits_the_analysis_and_itself(written: Path) -> None:
    assert (written / "spillover.csv").read_text("utf-8").splitlines()[0] == COLUMNS
    rows, record = table(written / "spillover.csv"), strict(written / "edit.json")
    assert [int(row["index"]) for row in rows] == list(range(8))
    assert [row["subject"] for row in rows] == [*(fact.subject for fact in CHOSEN[:7]), "'=SUM(A1)"], "guarded"
    numbers = np.stack([column(rows, name) for name in COLUMNS.split(",")[2:11]])
    assert np.isfinite(numbers).all()
    assert (np.abs(numbers).max(axis=1) > 0).all()

    with np.load(written.parent / "analysis" / "superposition.npz", allow_pickle=False) as stored:
        assert column(rows, "p").tolist() == stored["p"][stored["layers"].tolist().index(0), EDITED].tolist()
    predicted, measured = column(rows, "shift_predicted"), column(rows, "shift_measured")
    np.testing.assert_allclose(measured, predicted, rtol=0, atol=SHIFT * np.abs(predicted).max())
    np.testing.assert_allclose(predicted, column(rows, "p") * record["delta_norm"], rtol=SHIFT)
    assert predicted[EDITED] == pytest.approx(record["delta_norm"], rel=1e-6)

    others = np.arange(8) != EDITED
    quality = {row["forecast"]: row for row in record["quality"]}
    for forecast, name in FORECASTS.items():
        pearson = np.corrcoef(column(rows, name)[others], column(rows, "dlogodds_measured")[others])[0, 1]
        assert quality[forecast]["pearson"] == pytest.approx(pearson, rel=1e-9)
    assert record["flips_measured"] == flipped(rows)
    assert {row["flips"] for row in quality.values()} == {len(set(flipped(rows)) - {EDITED})}
    assert {row["facts"] for row in quality.values()} == {7}


def test_the_record_is_strict_json_with_all_that_is_needed(written: Path) -> None:
    rows, record = table(written / "spillover.csv"), strict(written / "edit.json")
    assert list(record) == RECORD
    edited = ["Windows 8.1", "The company that created {} is", "Microsoft", "product_maker", "Nokia"]
    assert list(record["edited"]) == ["subject", "prompt", "target", "relation", "new_target"]
    assert list(record["edited"].values()) == edited
    assert record["hyperparameters_from"] == "found on the demo family"
    assert record["protocol"].startswith("paraphrase: the templates held out in training")
    assert (record["provenance"]["model"], record["provenance"]["facts_count"]) == (MODEL, 8)
    assert 0 < record["probability_in_search"] <= 1
    assert str(EDITED) in record["flips_forecast"]
    assert record["success"]["efficacy"] is True
    assert list(record["success"]["scores"]) == list(record["success"]["scores_before"]) == list(SCORES)
    assert (record["success"]["scores"]["ES"], record["success"]["scores_before"]["ES"]) == (1, 0)
    assert "as ROME’s" in record["protocol"]
    assert "as EasyEdit’s" in record["protocol"]
    assert (rows[EDITED]["answer_before"], rows[EDITED]["answer_after"]) == ("Microsoft", "Nokia")
    digest = loading.load(catalog.locate(MODEL), device="cpu").digest()
    assert record["weights_sha256_before"] == record["weights_sha256_after"] == digest
    assert (record["warnings"], record["own_key_instead_of_mean_key"]) == ([], False)
    assert (record["edited_key"]["tags"], record["edited_key"]["others"]) == ([], 7)
    largest, shares = record["largest_share"], column(rows, "share")
    assert largest["fact"] != EDITED
    assert abs(largest["share"]) >= np.abs(np.delete(shares, EDITED)).max() * (1 - SHIFT)
    assert largest["subject"] == CHOSEN[largest["fact"]].subject


def test_twice_gives_the_same_bytes_and_says_where(
    folder: Path, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "deeper" / "again"
    assert main(arguments(folder, out=out)) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(out / name) for name in FILES]
    found, *lines = said.err.splitlines()
    assert found.endswith(": columns subject, prompt and target in CSV.")
    stages = [PROGRESS.fullmatch(line) for line in lines]
    assert all(stages), "nothing else but progress"
    assert "Measuring every fact" in [match[1] for match in stages if match]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        name: (written / name).read_bytes() for name in FILES
    }


def test_options_reach_the_request(folder: Path) -> None:
    given = {"steps": 2, "learning_rate": 0.25, "weight_decay": 0.125, "kl": 0.5, "clamp": 2.0, "seed": 9}
    chosen = arguments(folder, method="r-rome", layer=1, fact=7, out=folder / "options", **given)
    assert main([*chosen, "--mean-key", "--no-everywhere", "--strength=0.5"]) == 0
    record = strict(folder / "options" / "edit.json")
    hyperparameters = given | {"prefixes": [[3, 5]], "stop_loss": 0.05, "mean_key": True, "everywhere": False}
    expected = {"fact": 7, "target": "Nokia", "layer": 1, "method": "r-rome", "strength": 0.5}
    assert record["request"] == expected | {"hyperparameters": hyperparameters}
    assert len(record["losses"]) == 3
    assert record["edited"]["subject"] == FORMULA.subject, "guarded in the table alone"
    quality = {row["forecast"]: row["spearman"] for row in record["quality"]}
    assert quality["same relation"] is None, "a fact without a relation has it in common with none; NaN is null"
    assert quality["all tokens"] is not None


def test_an_odd_key_is_warned_of_before_the_search_and_an_edit_that_lands_many_times_over_before_it_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The edit along C = I of a key at the first token; the threshold is lowered to what a demo model has."""
    monkeypatch.setattr(landing, "MANY_TIMES", 0.2)
    out = folder / "many times"
    assert main(arguments(folder, method="identity", fact=FIRST_TOKEN, steps=4, out=out)) == 0
    lines = capsys.readouterr().err.splitlines()
    record, rows = strict(out / "edit.json"), table(out / "spillover.csv")
    said = [line for line in lines if line.startswith("warning: ")]
    assert said == [f"warning: {sentence}" for sentence in record["warnings"][:-1]]
    stages = {match[1]: k for k, line in enumerate(lines) if (match := PROGRESS.fullmatch(line))}
    first, row, landed = map(lines.index, said)
    assert said[0].startswith("warning: The key of this fact is taken at the first token.")
    assert first < row < stages["Searching for the value"] < landed < stages["Measuring every fact"]
    assert said[2].startswith("warning: This edit lands on ")
    assert record["warnings"][-1].startswith("Measured: ")
    key, p = record["edited_key"], np.delete(column(rows, "p"), FIRST_TOKEN)
    worst = f"with P = {p[np.abs(p).argmax()]:+.2f}."
    assert said[1].endswith(worst)
    assert (key["tags"], key["p"]) == (["first token"], p[np.abs(p).argmax()])
    assert key["leaks"] == (np.abs(p) >= 0.1).sum()
    shares = column(rows, "share")
    np.testing.assert_allclose(shares * record["delta_norm"], column(rows, "shift_predicted"), rtol=1e-6)
    assert np.abs(shares - column(rows, "p")).max() > 0.1, "C = I lands by a share of its own"


def test_changed_weights_are_not_taken_for_the_old_ones(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    """P is there, and the model under its name is another one now: no edit mixes the two."""
    store, model = Store(own_cache), tiny.save("GPT-2", tmp_path / "model")
    request = Request(str(model), str(folder / "facts.csv"), str(folder / "corpus.txt"), tokens=100, layers=(0,))
    result = pipeline.run(request, store, device="cpu")
    tiny.save("GPT-2", model, seed=1)
    with pytest.raises(RequestError, match=r"files of .*model changed since P was computed.*Analyse it anew"):
        _ = simulator.of(result, store, device="cpu").model
    assert simulator.of(pipeline.run(request, store, device="cpu"), store, device="cpu").model
