"""The published numbers: asked for only where they belong, and against the authors' own heatmaps and tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from kis_core import facts as fact_sets
from kis_core import superposition
from kis_core.facts import PAPER_FACTS, Fact, FactSet
from kis_core.keys import tokenize_prompts
from kis_core.results import published
from kis_core.results.result import Result
from tests.results.results_tools import NAME, made

SMALL, GPT_J, MEDIUM, LARGE = "gpt2", "gpt-j-6b", "gpt2-medium", "gpt2-large"
LAYERS = range(12)  # of GPT2-Small
STRONGEST, OF_A_TABLE = 25, 20
HEATMAPS = published.HEATMAPS
APART = 0.0115  # 0.011 in `ABOUT`, rounded
READ_OFF = 0.005  # half a unit of the second digit: the pictures' values, rounded
PLOTTED = 0.15  # relative, of kurtoses read off a plot and of entries read off a heatmap
CONTEXT = 1024
FIELD_NOTES = (72.7, 24.5, 28.9, 29.3, 26.7, 20.0, 15.3, 10.8, 9.8, 9.7, 8.4, 7.8)


@pytest.fixture(scope="module")
def known(shared_data: Path) -> tuple[Fact, ...]:
    """The authors' 436 facts, of which the paper takes the first 128."""
    return fact_sets.load(shared_data / "counterfact_known.json").facts


@pytest.fixture(scope="module")
def papers(known: tuple[Fact, ...]) -> tuple[Fact, ...]:
    return known[:PAPER_FACTS]


@pytest.fixture(scope="module")
def heatmaps(shared_data: Path) -> np.ndarray:
    """P of GPT2-Small as the authors' pictures show it, (12, 128, 128)."""
    return np.asarray(np.load(shared_data / "published" / "gpt2_small_p_digitised.npy"), dtype=np.float64)


def result(model: str, facts: Sequence[Fact]) -> Result:
    one = made(np.eye(2)[None])
    return replace(one, request=replace(one.request, model=model), facts=FactSet(NAME, tuple(facts), ()))


def pairs(model: str, layer: int, facts: Sequence[Fact]) -> pd.DataFrame:
    actual = published.pairs(result(model, facts), layer)
    assert actual is not None
    return actual


def places(actual: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(actual["i"].tolist(), actual["j"].tolist(), strict=True))


class TestAreThePapers:
    def test_the_first_128_of_the_authors_file_are_by_their_keys(self, known: tuple[Fact, ...]) -> None:
        assert len(known) > PAPER_FACTS == 128
        assert published.are_the_papers(known)
        assert published.are_the_papers([*known[:128], known[0]])
        assert published.are_the_papers([replace(fact, target="x", relation="") for fact in known[:128]])

    @pytest.mark.parametrize("kept", [slice(0, 0), slice(0, 127), slice(1, 129), slice(127, None, -1)])
    def test_fewer_or_others_or_another_order_are_not(self, known: tuple[Fact, ...], kept: slice) -> None:
        assert not published.are_the_papers(known[kept])

    @pytest.mark.parametrize(("at", "changed"), [(0, {"subject": "Malta"}), (127, {"prompt": "Where is {}? In"})])
    def test_one_other_key_is_enough_to_tell(self, papers: tuple[Fact, ...], at: int, changed: dict[str, str]) -> None:
        assert not published.are_the_papers([*papers[:at], replace(papers[at], **changed), *papers[at + 1 :]])


class TestHeatmaps:
    def test_of_gpt2_small_are_the_strongest_of_the_pictures(
        self, papers: tuple[Fact, ...], heatmaps: np.ndarray
    ) -> None:
        for layer in LAYERS:
            rows = pairs(SMALL, layer, papers)
            assert set(rows.columns) == {"i", "j", HEATMAPS, *(published.TABLES.values() if layer == 0 else ())}
            rows = rows[rows[HEATMAPS].notna()]
            expected = heatmaps[layer][rows["i"], rows["j"]]
            np.testing.assert_allclose(rows[HEATMAPS].astype(float), expected, rtol=0, atol=READ_OFF)
            strength = np.abs(heatmaps[layer])
            np.fill_diagonal(strength, -1.0)
            inside = [float(strength[place]) for place in places(rows)]
            assert len(set(places(rows))) == STRONGEST
            assert inside == sorted(strength.ravel().tolist(), reverse=True)[:STRONGEST]  # the pictures have ties

    def test_they_are_near_the_table(self, papers: tuple[Fact, ...]) -> None:
        both = pairs(SMALL, 0, papers).dropna(subset=[HEATMAPS, published.TABLES[SMALL]])
        apart = both[HEATMAPS].astype(float) - both[published.TABLES[SMALL]].astype(float)
        assert len(both) == OF_A_TABLE
        assert apart.abs().max() <= APART, "as `ABOUT` says, beside rounding"

    def test_the_first_by_hand(self, papers: tuple[Fact, ...]) -> None:
        rows = pairs(SMALL, 0, papers)
        first = rows[["i", "j", HEATMAPS]].head(3).to_numpy().tolist()
        assert first == [[21, 83, "1.00"], [83, 21, "1.00"], [55, 77, "0.99"]]  # text: 1.00 keeps its digits
        rows.loc[0, HEATMAPS] = "7"
        assert pairs(SMALL, 0, papers)[HEATMAPS][0] == "1.00", "a changed answer does not change the next"

    @pytest.mark.parametrize(("model", "layer"), [("gpt2-xl", 1), (SMALL, 12), (SMALL, -1), (GPT_J, 1), (LARGE, 11)])
    def test_there_are_none_of_another_model_or_layer_nor_of_other_facts(
        self, papers: tuple[Fact, ...], model: str, layer: int
    ) -> None:
        assert published.pairs(result(model, papers), layer) is None
        assert published.pairs(result(SMALL, papers[:127]), 1) is None


class TestTables:
    def test_all_eighty_rows_in_their_order_on_the_papers_facts(
        self, papers: tuple[Fact, ...], shared_data: Path
    ) -> None:
        theirs = pd.read_csv(shared_data / "published" / "paper_tables_1_to_4.csv", dtype=str)
        assert list(dict.fromkeys(theirs["model"])) == list(published.TABLES)
        for model, label in published.TABLES.items():
            of_model = theirs[theirs["model"] == model]
            rows = pairs(model, 0, papers).dropna(subset=[label])
            actual = [(said(papers[i]), said(papers[j]), p) for i, j, p in rows[["i", "j", label]].to_numpy().tolist()]
            sentences = zip(of_model["edited_sentence"], of_model["suffering_sentence"], of_model["p"], strict=True)
            expected = [(plain(edited), plain(suffers), p) for edited, suffers, p in sentences]
            assert len(expected) == OF_A_TABLE
            assert sorted(actual) == sorted(expected)
            if model != SMALL:  # where those of the heatmaps stand first
                assert actual == expected

    def test_any_real_model_has_the_pairs_whose_subjects_are_among_its_facts(self, papers: tuple[Fact, ...]) -> None:
        other = replace(papers[55], prompt="As a child, {} spoke", target="Polish")
        chosen = [papers[83], Fact("Malta", "{} lies in the", "sea"), other, papers[77], papers[21]]
        rows = pairs("some/folder", 0, chosen)
        assert set(places(rows)) == {(0, 4), (4, 0), (2, 3), (3, 2)}, "one subject twice: told apart by the prompt"
        values = rows.set_index(["i", "j"]).loc[(2, 3), list(published.TABLES.values())]
        assert values.tolist() == ["0.98", "0.95", "0.94", "1.00"]
        assert published.pairs(result("some/folder", [papers[21], papers[55]]), 0) is None, "no pair is whole"
        assert published.pairs(result("some/folder", chosen), 1) is None
        assert published.pairs(result("demo-gpt2-32", chosen), 0) is None, "nothing real stands beside the demo family"


def said(fact: Fact) -> str:
    """As the paper's tables write a fact."""
    return plain(fact.prompt.replace("{}", f"[{fact.subject}]") + f" [{fact.target}].")


def plain(sentence: str) -> str:
    return sentence.replace("’", "'")


def test_gpt_js_pairs_at_one_end_in_the_same_token(papers: tuple[Fact, ...], shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "gpt2", local_files_only=True)
    prompts = tokenize_prompts(tokenizer, papers, context=CONTEXT)
    last = [prompt.tokens[prompt.key_index] for prompt in prompts]
    expected = {(i, j) for i, one in enumerate(last) for j, other in enumerate(last) if i != j and one == other}
    rows = pairs(GPT_J, 0, papers)
    assert set(places(rows[rows[published.TABLES[GPT_J]] == "1.00"])) == expected
    assert len(expected) == 14


def test_kurtosis_is_that_of_the_field_notes_and_near_that_of_the_pictures(heatmaps: np.ndarray) -> None:
    assert published.KURTOSIS == {SMALL: FIELD_NOTES}
    of_pictures = [superposition.moments(p).kurtosis for p in heatmaps]
    assert of_pictures == pytest.approx(published.KURTOSIS[SMALL], rel=PLOTTED)
