"""Convergence: kurtosis by facts and by tokens, as the library works it out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from kis_core.request import DEFAULT_TOKENS
from kis_core.results import convergence
from tests.pages.conftest import ANSWERED, FEWER_TOKENS, LOOKALIKES, MIXED, Open, Stored
from tests.pages.looking import Chart, captions, charts

PAGE = "pages/convergence.py"
BY_FACTS, DENSITIES, KURTOSIS, BY_TEXT, LIKENESS = range(5)
AMOUNTS = [*FEWER_TOKENS, DEFAULT_TOKENS]


def curve(chart: Chart) -> pd.DataFrame:
    return chart.drawn("line")


@pytest.mark.parametrize("layer", [0, 3])
def test_the_band_is_that_of_random_subsets(layer: int, look: Open, result: Result) -> None:
    drawn = curve(charts(look(PAGE, layer=str(layer)))[BY_FACTS])
    expected = superposition.bands(superposition.convergence(result.p[layer]))
    pd.testing.assert_frame_equal(drawn[expected.columns], expected, check_dtype=False)
    assert drawn["x"].tolist() == [16, 32, 48, 64, 80, 96, 112, 128]
    assert drawn["middle"].iloc[-1] == pytest.approx(superposition.moments(result.p[layer]).kurtosis)


def test_the_caption_states_the_band_at_half_of_the_facts(look: Open, result: Result) -> None:
    half = superposition.bands(superposition.convergence(result.p[0])).set_index("x").loc[64]
    told = captions(look(PAGE))
    assert "64 of the 128 facts" in told
    assert f"from {half['low']:.1f} to {half['high']:.1f}" in told
    assert f"all facts together {superposition.moments(result.p[0]).kurtosis:.1f}" in told


def test_the_densities_are_of_more_and_more_facts(look: Open, result: Result) -> None:
    drawn = curve(charts(look(PAGE))[DENSITIES])
    expected = convergence.subset_densities(result.p[0])
    assert sorted(set(drawn["size"])) == sorted(set(expected["size"]))
    whole = drawn[drawn["size"] == 128]
    np.testing.assert_allclose(whole["density"], superposition.kde(result.p[0], points=240).value)


def test_each_amount_of_text_has_its_kurtosis(look: Open, stored: Stored) -> None:
    drawn = curve(charts(look(PAGE, layer="3"))[KURTOSIS])
    reports = [stored(tokens=tokens).reports[3] for tokens in AMOUNTS]
    assert drawn["x"].tolist() == [stored(tokens=tokens).provenance["tokens_counted"] for tokens in AMOUNTS]
    assert drawn["middle"].tolist() == pytest.approx([report.moments.kurtosis for report in reports])
    assert drawn["low"].tolist() == pytest.approx([report.interval.low for report in reports])
    assert drawn["high"].tolist() == pytest.approx([report.interval.high for report in reports])


def test_each_amount_of_text_has_its_density(look: Open, stored: Stored) -> None:
    drawn = curve(charts(look(PAGE, layer="1"))[BY_TEXT])
    for tokens in AMOUNTS:
        one = stored(tokens=tokens)
        part = drawn[drawn["size"] == one.provenance["tokens_counted"]]
        np.testing.assert_allclose(part["density"], superposition.kde(one.p[1], points=240).value)


def test_each_amount_of_text_is_correlated_with_the_largest(look: Open, stored: Stored) -> None:
    drawn = curve(charts(look(PAGE))[LIKENESS])
    every = [stored(tokens=tokens).p[0] for tokens in AMOUNTS]
    off = ~np.eye(len(every[0]), dtype=bool)
    expected = [np.corrcoef(p[off], every[-1][off])[0, 1] for p in every]
    assert drawn["middle"].tolist() == pytest.approx(expected)
    assert expected[0] < expected[1] < 1


def test_of_the_answered_facts_alone_the_kurtosis_is_theirs(look: Open, stored: Stored) -> None:
    page = look(PAGE, facts="mixed", keep="known")
    answered = [stored("mixed", tokens=tokens).p[0, :ANSWERED, :ANSWERED] for tokens in AMOUNTS]
    drawn = curve(charts(page)[KURTOSIS])
    assert drawn["middle"].tolist() == pytest.approx([superposition.moments(p).kurtosis for p in answered])
    assert curve(charts(page)[BY_FACTS])["x"].tolist() == [16, ANSWERED]


def test_all_facts_of_a_set_are_taken_where_none_is_left_out(look: Open, stored: Stored) -> None:
    drawn = curve(charts(look(PAGE, facts="mixed"))[KURTOSIS])
    expected = [superposition.moments(stored("mixed", tokens=tokens).p[0]).kurtosis for tokens in AMOUNTS]
    assert drawn["middle"].tolist() == pytest.approx(expected)
    assert f"{MIXED} facts" in captions(look(PAGE, facts="mixed"))


def test_a_ridge_that_was_needed_is_told(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ridge was needed" not in captions(open_page(PAGE))
    by_tokens = convergence.by_tokens

    def with_ridge(found: dict[int, Result], layer: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        one = found[FEWER_TOKENS[0]]
        found[FEWER_TOKENS[0]] = replace(one, reports=tuple(replace(report, ridge=1e-6) for report in one.reports))
        return by_tokens(found, layer)

    monkeypatch.setattr(convergence, "by_tokens", with_ridge)
    assert f"A ridge was needed at {FEWER_TOKENS[0]:,} tokens" in captions(open_page(PAGE))


def test_a_single_amount_of_text_is_no_curve(look: Open) -> None:
    page = look(PAGE, facts=LOOKALIKES)
    assert len(charts(page)) == 2
    assert "As soon as two amounts" in captions(page)


@pytest.mark.parametrize(("facts", "count"), [("one", 1), ("two", 2), ("three", 3)])
def test_too_few_facts_are_told(facts: str, count: int, look: Open) -> None:
    page = look(PAGE, facts=facts)
    assert page.info[0].value.startswith(f"{count} fact")
    assert not charts(page)
