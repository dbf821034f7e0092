"""Convergence: kurtosis by facts and by tokens, as the library works it out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kis_core import superposition
from kis_core.analysis.pipeline import Result
from kis_core.request import DEFAULT_TOKENS
from tests.pages.conftest import ANSWERED, FEWER_TOKENS, LOOKALIKES, Open, Stored
from tests.pages.looking import Chart, captions, charts

PAGE = "pages/convergence.py"
BY_FACTS, DENSITIES, KURTOSIS, BY_TEXT, LIKENESS = range(5)
AMOUNTS = [*FEWER_TOKENS, DEFAULT_TOKENS]


def curve(chart: Chart) -> pd.DataFrame:
    return chart.drawn("line")


@pytest.mark.stress
def test_the_caption_states_the_band_of_random_subsets_at_half_of_the_facts(look: Open, result: Result) -> None:
    page, p = look(PAGE, layer="3"), result.p[3]
    assert curve(charts(page)[BY_FACTS])["x"].tolist() == [16, 32, 48, 64, 80, 96, 112, 128]
    half = superposition.bands(superposition.convergence(p)).set_index("x").loc[64]
    whole = f"together {superposition.moments(p).kurtosis:.1f}"
    for text in ("64 of the 128 facts", f"from {half['low']:.1f} to {half['high']:.1f}", whole):
        assert text in captions(page)
    drawn = curve(charts(page)[DENSITIES])
    np.testing.assert_allclose(drawn[drawn["size"] == 128]["density"], superposition.kde(p, points=240).value)


def test_each_amount_of_text_has_its_kurtosis_density_and_correlation(look: Open, stored: Stored) -> None:
    figures, results = charts(look(PAGE, layer="3")), [stored(tokens=tokens) for tokens in AMOUNTS]
    drawn, by_text = curve(figures[KURTOSIS]), curve(figures[BY_TEXT])
    assert drawn["middle"].tolist() == pytest.approx([result.reports[3].moments.kurtosis for result in results])
    assert drawn["low"].tolist() == pytest.approx([result.reports[3].interval.low for result in results])
    for result, tokens in zip(results, drawn["x"], strict=True):
        assert tokens == result.provenance["tokens_counted"]
        density = by_text[by_text["size"] == tokens]["density"]
        np.testing.assert_allclose(density, superposition.kde(result.p[3], points=240).value)
    off = ~np.eye(128, dtype=bool)
    correlations = [np.corrcoef(result.p[3][off], results[-1].p[3][off])[0, 1] for result in results]
    assert curve(figures[LIKENESS])["middle"].tolist() == pytest.approx(correlations)
    assert correlations[0] < correlations[1] < 1


def test_of_the_answered_facts_alone_the_kurtosis_is_theirs(look: Open, stored: Stored) -> None:
    page = look(PAGE, facts="mixed", keep="known")
    answered = [stored("mixed", tokens=tokens).p[0, :ANSWERED, :ANSWERED] for tokens in AMOUNTS]
    drawn = curve(charts(page)[KURTOSIS])
    assert drawn["middle"].tolist() == pytest.approx([superposition.moments(p).kurtosis for p in answered])
    assert curve(charts(page)[BY_FACTS])["x"].tolist() == [16, ANSWERED]


def test_of_one_amount_of_text_there_is_no_curve_and_of_few_facts_nothing(look: Open) -> None:
    page = look(PAGE, facts=LOOKALIKES)
    assert len(charts(page)) == 2
    assert "As soon as two amounts" in captions(page)
    page = look(PAGE, facts="three")
    assert page.info[0].value.startswith("3 facts")
    assert not charts(page)
