"""`python -m kis_core edit`: a table and a record of one edit, the same numbers as elsewhere, and plain refusals."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kis_core import corpora, facts, simulator
from kis_core.__main__ import WRONG_INPUT, main
from kis_core.analysis import pipeline
from kis_core.models import catalog, loading
from kis_core.progress import EDIT_STAGES, MEASURE_STAGES, STAGES
from kis_core.request import Request, RequestError
from kis_core.spillover import landing
from kis_core.store.store import Store
from tests import tiny
from tests.commands.command_tools import strict

MODEL = "demo-gpt2-32"
COLUMNS = (
    "index,subject,p,share,shift_predicted,shift_measured,dlogodds_first_order,dlogodds_all_tokens,dlogodds_propagated,"
    "dlogodds_measured,dlogp_measured,answer_before,answer_after"
)
FILES = ["spillover.csv", "edit.json"]
RECORD = [
    "request", "edited", "hyperparameters_from", "delta_norm", "old_value_norm", "warnings",
    "own_key_instead_of_mean_key", "largest_share", "losses", "probability_in_search", "success",
    "protocol", "quality", "flips_forecast", "flips_measured", "weights_sha256_before", "weights_sha256_after",
    "provenance",
]  # fmt: skip
TOKENS = 4000  # enough for keys of length 128, so that nothing is said of too few
STEPS = 4
EDITED = 3
FORMULA = facts.Fact("=SUM(A1)", "{} lies in", "Norway")
PROGRESS = re.compile(rf" *\d+\.\d s  ({'|'.join(map(re.escape, (*STAGES, *EDIT_STAGES, *MEASURE_STAGES)))})")
SHIFT = 1e-4  # the measured shift, relative to the largest: it is read off float32 outputs
SUMMED = 1e-12  # relative; the same float64 numbers summed in another order

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts, a text, and the cache that all tests here share, so that the analysis is done once."""
    folder = tmp_path_factory.mktemp("edit")
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:400]), "utf-8")
    with (folder / "facts.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = ([one.subject, one.prompt, one.target, one.relation] for one in (*facts.builtin().facts[:7], FORMULA))
        csv.writer(stream).writerows([("subject", "prompt", "target", "relation"), *rows])
    return folder


@pytest.fixture(autouse=True)
def shared_cache(own_cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIS_CACHE", str(folder / "cache"))


def arguments(folder: Path, **changed: object) -> list[str]:
    options = {
        "model": MODEL, "facts": folder / "facts.csv", "corpus": folder / "corpus.txt", "tokens": TOKENS, "layer": 0,
        "fact": EDITED, "target": "Nokia", "steps": STEPS, "device": "cpu", "out": folder / "out",
    } | changed  # fmt: skip
    return ["edit", *(f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None)]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


@pytest.fixture(scope="module")
def written(folder: Path) -> Path:
    """One edit at 0.75 of its strength, and beside it the analysis with the same ingredients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIS_CACHE", str(folder / "cache"))
        assert main(arguments(folder, strength=0.75, out=folder / "written")) == 0
        shared = [option for option in arguments(folder) if re.match("--(model|facts|corpus|tokens|device)=", option)]
        assert main(["analyse", *shared, f"--out={folder / 'analysis'}"]) == 0
    return folder / "written"


@pytest.fixture
def refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run with wrong input; the one line of complaint, whatever progress stood before it."""

    def run(**changed: object) -> str:
        out = tmp_path / "nothing here"
        assert main(arguments(folder, **{"out": out} | changed)) == WRONG_INPUT == 2
        told = capsys.readouterr()
        assert told.out == ""
        [line] = [line for line in told.err.splitlines() if not PROGRESS.fullmatch(line)]
        assert line.startswith("kis_core: ")
        assert not out.exists()
        return line

    return run


class TestFiles:
    def test_are_two_and_named_on_standard_output(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = folder / "deeper" / "out"
        assert main(arguments(folder, out=out)) == 0
        told = capsys.readouterr()
        assert told.out.splitlines() == [str(out / name) for name in FILES]
        assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
        stages = [match[1] for line in told.err.splitlines() if (match := PROGRESS.fullmatch(line))]
        assert len(stages) == len(told.err.splitlines()), "nothing but progress"
        assert "Measuring every fact" in stages

    def test_columns(self, written: Path) -> None:
        assert (written / "spillover.csv").read_text("utf-8").splitlines()[0] == COLUMNS
        rows = table(written / "spillover.csv")
        assert [int(row["index"]) for row in rows] == list(range(8))
        assert [row["subject"] for row in rows[:7]] == [fact.subject for fact in facts.builtin().facts[:7]]
        numbers = np.stack([column(rows, name) for name in COLUMNS.split(",")[2:11]])
        assert np.isfinite(numbers).all()
        assert (np.abs(numbers).max(axis=1) > 0).all()

    def test_a_subject_like_a_formula_is_guarded(self, written: Path) -> None:
        last = table(written / "spillover.csv")[-1]
        assert last["subject"] == f"'{FORMULA.subject}"
        assert all(cell[:1] not in {"=", "+", "@"} for cell in last.values())
        assert float(last["shift_predicted"]) == pytest.approx(0.75 * float(last["p"]) * self.norm(written), rel=1e-4)

    def norm(self, written: Path) -> float:
        return strict(written / "edit.json")["delta_norm"] / 0.75

    def test_p_is_the_row_that_analyse_writes(self, written: Path) -> None:
        with np.load(written.parent / "analysis" / "superposition.npz", allow_pickle=False) as stored:
            expected = stored["p"][stored["layers"].tolist().index(0), EDITED]
        assert column(table(written / "spillover.csv"), "p").tolist() == expected.tolist()

    def test_numbers_fit_together(self, written: Path) -> None:
        rows, record = table(written / "spillover.csv"), strict(written / "edit.json")
        told, found = column(rows, "shift_predicted"), column(rows, "shift_measured")
        np.testing.assert_allclose(found, told, rtol=0, atol=SHIFT * np.abs(told).max())
        assert told[EDITED] == pytest.approx(record["delta_norm"], rel=1e-6)
        losses = -column(rows, "dlogodds_measured")
        others = np.arange(8) != EDITED
        by_name = {row["forecast"]: row for row in record["quality"]}
        for name, of in (
            ("all tokens", "dlogodds_all_tokens"),
            ("subject token", "dlogodds_first_order"),
            ("propagated", "dlogodds_propagated"),
        ):
            line = np.corrcoef(-column(rows, of)[others], losses[others])[0, 1]
            assert by_name[name]["pearson"] == pytest.approx(line, rel=1e-9)
        flipped = [int(row["index"]) for row in rows if row["answer_before"] != row["answer_after"]]
        assert record["flips_measured"] == flipped
        assert {row["flips"] for row in record["quality"]} == {len(set(flipped) - {EDITED})}
        assert {row["facts"] for row in record["quality"]} == {7}


class TestRecord:
    def test_is_strict_json_with_all_that_is_needed(self, written: Path) -> None:
        record = strict(written / "edit.json")
        assert list(record) == RECORD
        assert record["edited"] == {
            "subject": "Windows 8.1", "prompt": "The company that created {} is", "target": "Microsoft",
            "relation": "product_maker", "new_target": "Nokia",
        }  # fmt: skip
        assert record["hyperparameters_from"] == "found on the demo family"
        assert len(record["losses"]) == STEPS + 1
        assert 0 < record["probability_in_search"] <= 1
        assert record["delta_norm"] > 0
        assert record["old_value_norm"] > 0
        assert record["protocol"].startswith("paraphrase: the templates held out in training")
        assert set(record["success"]) == {
            "efficacy", "likelier", "probability_new", "probability_old", "paraphrase", "neighbourhood",
            "neighbourhood_before", "generated", "generated_before",
        }  # fmt: skip
        assert record["provenance"]["model"] == MODEL
        assert record["provenance"]["facts_count"] == 8

    def test_nan_is_null(self, folder: Path) -> None:
        assert main(arguments(folder, fact=7, steps=1, out=folder / "alone")) == 0
        record = strict(folder / "alone" / "edit.json")
        quality = {row["forecast"]: row for row in record["quality"]}
        assert quality["same relation"]["spearman"] is None, "a fact without a relation has it in common with none"
        assert quality["all tokens"]["spearman"] is not None
        assert record["edited"]["subject"] == FORMULA.subject, "guarded in the table alone"

    def test_the_weights_are_those_of_the_model_before_and_after(self, written: Path) -> None:
        record = strict(written / "edit.json")
        digest = loading.load(catalog.locate(MODEL), device="cpu").digest()
        assert record["weights_sha256_before"] == record["weights_sha256_after"] == digest

    def test_flips_foretold_name_facts_and_words(self, folder: Path) -> None:
        assert main(arguments(folder, steps=None, out=folder / "whole")) == 0
        record, rows = strict(folder / "whole" / "edit.json"), table(folder / "whole" / "spillover.csv")
        assert str(EDITED) in record["flips_forecast"]
        assert record["success"]["efficacy"] is True
        assert (rows[EDITED]["answer_before"], rows[EDITED]["answer_after"]) == ("Microsoft", "Nokia")
        assert record["flips_measured"] == [
            k for k, row in enumerate(rows) if row["answer_after"] != row["answer_before"]
        ]
        assert all(int(k) in range(8) and word for k, word in record["flips_forecast"].items())

    def test_the_whole_request(self, written: Path) -> None:
        assert strict(written / "edit.json")["request"] == {
            "fact": EDITED, "target": "Nokia", "layer": 0, "method": "rome", "strength": 0.75,
            "hyperparameters": {
                "steps": STEPS, "learning_rate": 0.5, "weight_decay": 0.5, "kl": 0.0, "clamp": 4.0,
                "prefixes": [[3, 5]], "stop_loss": 0.05, "mean_key": False, "everywhere": True, "seed": 0,
            },
        }  # fmt: skip

    def test_the_largest_share_and_no_warning_of_it(self, written: Path) -> None:
        record = strict(written / "edit.json")
        assert (record["warnings"], record["own_key_instead_of_mean_key"]) == ([], False)
        found, shares = record["largest_share"], column(table(written / "spillover.csv"), "share")
        assert found["fact"] != EDITED
        assert abs(found["share"]) >= np.abs(np.delete(shares, EDITED)).max() * (1 - SHIFT)
        assert found["subject"] == [*facts.builtin().facts[:7], FORMULA][found["fact"]].subject

    def test_an_edit_that_lands_many_times_over_is_told_before_it_is_made(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The edit along C = I of a short key; the threshold is lowered to what a demo model has."""
        monkeypatch.setattr(landing, "MANY_TIMES", 0.2)
        out = folder / "many times"
        assert main(arguments(folder, method="identity", out=out)) == 0
        told = capsys.readouterr().err.splitlines()
        record, rows = strict(out / "edit.json"), table(out / "spillover.csv")
        said = [line for line in told if line.startswith("warning: This edit lands on ")]
        assert said == [f"warning: {record['warnings'][0]}"]
        assert told.index(said[0]) < next(k for k, line in enumerate(told) if line.endswith("Measuring every fact"))
        assert record["warnings"][1].startswith("Measured: ")
        shares = column(rows, "share")
        np.testing.assert_allclose(shares * record["delta_norm"], column(rows, "shift_predicted"), rtol=1e-6)
        assert np.abs(shares - column(rows, "p")).max() > 0.1, "C = I lands by a share of its own"

    def test_options_reach_the_request(self, folder: Path) -> None:
        given = {
            "steps": 2, "learning_rate": 0.25, "weight_decay": 0.125, "kl": 0.5, "clamp": 2.0, "seed": 9,
        }  # fmt: skip
        asked = arguments(folder, method="r-rome", layer=1, out=folder / "options", **given)
        assert main([*asked, "--mean-key", "--no-everywhere"]) == 0
        record = strict(folder / "options" / "edit.json")
        expected = given | {"prefixes": [[3, 5]], "stop_loss": 0.05, "mean_key": True, "everywhere": False}
        assert record["request"]["hyperparameters"] == expected
        assert (record["request"]["method"], record["request"]["layer"]) == ("r-rome", 1)
        assert record["request"]["strength"] == 1.0
        assert len(record["losses"]) == 3

    def test_strength_scales_what_is_foretold(self, folder: Path, written: Path) -> None:
        assert main(arguments(folder, strength=1.5, out=folder / "double")) == 0
        once, twice = table(written / "spillover.csv"), table(folder / "double" / "spillover.csv")
        for name in ("shift_predicted", "dlogodds_first_order", "dlogodds_all_tokens"):
            np.testing.assert_allclose(column(twice, name), 2 * column(once, name), rtol=SUMMED)
        assert column(twice, "p").tolist() == column(once, "p").tolist()

    def test_no_strength_changes_no_answer(self, folder: Path) -> None:
        found = {}
        for strength in (0, 1):
            out = folder / f"strength {strength}"
            assert main(arguments(folder, steps=None, strength=strength, out=out)) == 0
            found[strength] = strict(out / "edit.json")
        assert len(found[1]["flips_measured"]) > 0
        assert len(found[1]["flips_forecast"]) > 0
        record, rows = found[0], table(folder / "strength 0" / "spillover.csv")
        assert (record["flips_measured"], record["flips_forecast"], record["delta_norm"]) == ([], {}, 0.0)
        assert not column(rows, "shift_predicted").any()

    def test_twice_gives_the_same_bytes(self, folder: Path, written: Path) -> None:
        assert main(arguments(folder, strength=0.75, out=folder / "again")) == 0
        for name in FILES:
            assert (folder / "again" / name).read_bytes() == (written / name).read_bytes()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"fact": 8}, "facts count from 0 to 7; fact 8 was to be edited"),
            ({"fact": -1}, "fact -1 was to be edited"),
            ({"layer": 4}, "layer 4 was not computed; there are 0, 1, 2, 3"),
            ({"layer": -1}, "layer -1 was not computed"),
            ({"layer": 3}, "layer 3 is the last one"),
            ({"target": ""}, "the new object is empty"),
            ({"target": "   "}, "the new object is empty"),
            ({"strength": 1.51}, "the strength has to lie between 0 and 1.5; found 1.51"),
            ({"strength": -0.1}, "found -0.1"),
            ({"steps": 0}, "steps from 1 to 1000; 0 were asked for"),
            ({"learning_rate": 0}, "the learning rate has to lie in (0, 10]"),
            ({"weight_decay": -1}, "weight decay and KL factor in [0, 100]"),
            ({"clamp": 0}, "the clamp has to lie in (0, 100]"),
            ({"tokens": 0}, "C needs at least one token"),
            ({"facts": "nowhere.csv"}, "No fact file at nowhere.csv"),
            ({"corpus": "nowhere.txt"}, "No corpus file at nowhere.txt"),
            ({"model": "nowhere"}, "nowhere is not on this machine"),
        ],
        ids=str,
    )
    def test_is_told_in_one_line(self, refused: Refused, changed: dict[str, object], reason: str) -> None:
        assert reason in refused(**changed)

    def test_a_new_object_too_long_for_the_model(self, refused: Refused) -> None:
        assert "this model reads at most 64" in refused(target="so " * 200)

    def test_out_is_a_file(self, refused: Refused, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.write_text("precious")
        assert "is a file; --out names a folder" in refused(out=precious / "deeper")
        assert precious.read_text() == "precious"

    @pytest.mark.parametrize(
        ("changed", "about"),
        [
            ({"fact": None}, "--fact"),
            ({"target": None}, "--target"),
            ({"layer": "first"}, "--layer"),
            ({"method": "memit"}, "--method"),
            ({"strength": "full"}, "--strength"),
            ({"strength": "nan"}, "--strength"),
            ({"weight_decay": "inf"}, "--weight-decay"),
            ({"steps": 2.5}, "--steps"),
            ({"device": "tpu"}, "--device"),
        ],
        ids=str,
    )
    def test_of_an_option(
        self, folder: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, object], about: str
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments(folder, **changed))
        assert caught.value.code == WRONG_INPUT
        assert about in capsys.readouterr().err.splitlines()[-1]


class TestOneStoreForAll:
    def test_another_precision_takes_nothing_of_the_first(
        self, folder: Path, tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both in one store, after float32 filled it, and alone in a fresh one: the same files to the last digit."""
        half = {"dtype": "bfloat16", "strength": 0.75}
        assert main(arguments(folder, out=tmp_path / "after", **half)) == 0
        monkeypatch.setenv("KIS_CACHE", str(tmp_path / "fresh"))
        assert main(arguments(folder, out=tmp_path / "alone", **half)) == 0
        after, alone = ((tmp_path / name / "spillover.csv").read_bytes() for name in ("after", "alone"))
        assert after == alone
        assert after != (written / "spillover.csv").read_bytes()

    def test_weights_that_changed_since_are_not_taken_for_the_old_ones(
        self, folder: Path, tmp_path: Path, own_cache: Path
    ) -> None:
        """P is there, and the model under its name is another one now: no edit mixes the two."""
        store, model = Store(own_cache), tiny.save("GPT-2", tmp_path / "model")
        request = Request(str(model), str(folder / "facts.csv"), str(folder / "corpus.txt"), tokens=500)
        result = pipeline.run(request, store, device="cpu")
        tiny.save("GPT-2", model, seed=1)
        with pytest.raises(RequestError, match=r"files of .*model changed since P was computed.*Analyse it anew"):
            _ = simulator.of(result, store, device="cpu").model
        assert simulator.of(pipeline.run(request, store, device="cpu"), store, device="cpu").model
