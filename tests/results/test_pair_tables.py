"""The strongest pairs as a table with its filters, and pairs that stay: on results written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kis_core.request import RequestError
from kis_core.results.pairs import table, that_stay
from kis_core.results.result import Result
from kis_core.results.tags import TAGS
from tests.results.results_tools import made

ROUNDING = 1e-9  # of a mean, and of degrees by arccos of cosines away from 1 and -1
LAYER = 7
ALL = 100  # more rows than there are pairs

P = np.array([[1.0, 0.9, -0.3, 0.2], [0.5, 1.0, 0.1, -0.8], [-0.3, 0.15, 1.0, 0.4], [0.2, 0.7, 0.05, 1.0]])
RANKED = [(0, 1), (1, 3), (3, 1), (1, 0), (2, 3), (0, 2), (2, 0), (0, 3), (3, 0), (2, 1), (1, 2), (3, 2)]
DEGREES = 20.0 + 10 * np.arange(4)[:, None] + np.arange(4)[None, :]  # of (2, 3): 43
COLUMNS = ["rank", "i", "j", "p", "p_back", "whitened_angle", "edited", "suffers", "relation_i", "relation_j", "tags"]
COLUMNS += ["sentence_i", "sentence_j"]


@pytest.fixture(scope="module")
def result() -> Result:
    """Pairs of facts 0 and 3 share subject and last token, 1 and 2 the subject, 0 and 2, 2 and 3 the last token."""
    return made(
        np.stack([P[::-1, ::-1], P]),
        subjects=("Malta", "Straße", "Straße", "Malta"),
        relations=("capital_of", "", "official_language", "official_language"),
        key_token_ids=(8, 7, 8, 8),
        layers=(3, LAYER),
        whitening=np.cos(np.radians(np.stack([90 - DEGREES, DEGREES]))),
    )


def pairs_of(rows: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(rows["i"].tolist(), rows["j"].tolist(), strict=True))


def listed(result: Result, **filters: Any) -> list[tuple[int, int]]:
    return pairs_of(table(result, LAYER, count=ALL, **filters))


class TestTable:
    def test_lists_pairs_by_falling_size_with_all_that_is_known_of_them(self, result: Result) -> None:
        rows = table(result, LAYER, count=ALL)
        assert pairs_of(rows) == RANKED
        assert rows["rank"].tolist() == list(range(1, 13))
        assert rows["p"].tolist() == [P[pair] for pair in RANKED]
        assert rows["p_back"].tolist() == [P[pair[::-1]] for pair in RANKED]
        assert rows.columns.tolist() == COLUMNS
        row = rows.iloc[4].to_dict()
        assert row.pop("whitened_angle") == pytest.approx(43.0, abs=ROUNDING)
        assert list(row.values()) == [
            *(5, 2, 3, 0.4, 0.05, "Straße → land 2", "Malta → land 3", "official language", "official language"),
            *("same last token", "Straße lies in land 2", "Malta lies in land 3"),
        ]
        assert (rows["relation_i"][0], rows["relation_j"][0]) == ("capital of", "")

    def test_the_layer_is_a_number_of_the_model(self, result: Result) -> None:
        first = table(result, 3, count=1).iloc[0]
        assert (first["i"], first["j"], first["p"]) == (3, 2, 0.9)
        assert first["whitened_angle"] == pytest.approx(90 - 52, abs=ROUNDING)
        with pytest.raises(RequestError, match="layer 0 was not computed"):
            table(result, 0, count=ALL)

    def test_merged_pairs_are_told_in_the_stronger_direction_and_equals_in_the_first(self, result: Result) -> None:
        rows = table(result, LAYER, count=ALL, merge=True)
        assert pairs_of(rows) == [(0, 1), (1, 3), (2, 3), (0, 2), (0, 3), (2, 1)]
        assert rows["rank"].tolist() == [1, 2, 5, 6, 8, 10]
        assert rows["p_back"].tolist() == [0.5, 0.7, 0.05, -0.3, 0.2, 0.1]

    def test_merging_keeps_the_direction_that_has_a_value(self) -> None:
        p = P.copy()
        p[0, 1] = p[2, 3] = np.nan
        assert listed(made(np.stack([P] * LAYER + [p])), merge=True) == [(1, 3), (1, 0), (0, 2), (0, 3), (2, 1), (3, 2)]

    @pytest.mark.parametrize("count", [0, 2, 13])
    def test_rows_are_counted_after_the_filters(self, result: Result, count: int) -> None:
        rows = table(result, LAYER, count=count, merge=True, text="land 2")
        assert pairs_of(rows) == [(2, 3), (0, 2), (2, 1)][:count]
        assert rows["rank"].tolist() == [5, 6, 10][:count]
        assert rows.index.tolist() == list(range(min(count, 3)))

    @pytest.mark.parametrize(
        ("filters", "facts"),
        [
            ({"relations": ["official_language"]}, {2, 3}),
            ({"relations": {"", "capital_of"}}, {0, 1}),
            ({"relations": ["capital"]}, set()),
            ({"text": "STRASSE"}, {1, 2}),
            ({"text": "  Land 3 "}, {3}),
            ({"text": "Malta lies in land 0"}, {0}),
            ({"text": " \t"}, {0, 1, 2, 3}),
            ({"text": "official"}, set()),
            ({"text": "("}, set()),
        ],
    )
    def test_relation_and_text_may_stand_on_either_side(
        self, result: Result, filters: dict[str, Any], facts: set[int]
    ) -> None:
        assert listed(result, **filters) == [pair for pair in RANKED if facts & set(pair)]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"tags": ["same subject"]}, [(0, 3), (3, 0), (2, 1), (1, 2)]),
            ({"tags": ["same last token"]}, [(2, 3), (0, 2), (2, 0), (0, 3), (3, 0), (3, 2)]),
            ({"tags": ["no tag"]}, [(0, 1), (1, 3), (3, 1), (1, 0)]),
            ({"tags": TAGS}, RANKED),
            ({"between": (0.4, 0.7)}, [(3, 1), (1, 0), (2, 3)]),
            ({"between": (-1.0, 0.0)}, [(1, 3), (0, 2), (2, 0)]),
            ({"between": (0.91, 2.0)}, []),
            ({"relations": ["capital_of"], "tags": ["same last token"], "text": "land 3", "between": (0.1, 1.0)},
             [(0, 3), (3, 0)]),
        ],
    )  # fmt: skip
    def test_one_of_the_tags_is_enough_both_ends_are_included_and_every_filter_must_let_through(
        self, result: Result, filters: dict[str, Any], expected: list[tuple[int, int]]
    ) -> None:
        assert listed(result, **filters) == expected

    def test_only_pairs_of_a_mask(self, result: Result) -> None:
        where = np.zeros((4, 4), dtype=bool)
        where[3, 1] = where[0, 2] = where[2, 2] = True
        assert listed(result, where=where) == [(3, 1), (0, 2)]


def test_tags_by_hand(result: Result) -> None:
    assert result.tags(result.layers[0]).names([0, 2, 1, 3, 0], [1, 2, 2, 2, 3]) == [
        [], [], ["same subject"], ["same last token"], ["same subject", "same last token"],
    ]  # fmt: skip


class TestThatStay:
    THREE = np.array(
        [
            [[1.0, 0.9, 0.1], [0.2, 1.0, -0.8], [0.3, 0.0, 1.0]],
            [[1.0, 0.5, 0.1], [0.2, 1.0, -0.9], [0.6, 0.0, 1.0]],
            [[1.0, 0.1, 0.4], [0.2, 1.0, -0.7], [0.0, 0.3, 1.0]],
        ]
    )

    def test_by_hand(self) -> None:
        before = self.THREE.copy()
        actual = that_stay(list(self.THREE), ["a", "b", "c"], 2)
        np.testing.assert_array_equal(self.THREE, before)
        # the strongest two: (0, 1) (1, 2) | (1, 2) (2, 0) | (1, 2) (0, 2)
        assert actual.columns.tolist() == ["i", "j", "times", "mean", "a", "b", "c"]
        assert actual.index.tolist() == [0, 1, 2, 3]
        assert actual[["i", "j", "times"]].to_numpy().tolist() == [[1, 2, 3], [0, 1, 1], [2, 0, 1], [0, 2, 1]]
        np.testing.assert_allclose(actual["mean"], [-0.8, 0.5, 0.3, 0.2], rtol=ROUNDING)
        assert actual[["a", "b", "c"]].iloc[:2].to_numpy().tolist() == [[-0.8, -0.9, -0.7], [0.9, 0.5, 0.1]]

    def test_how_often_counts_more_than_how_strong(self) -> None:
        p = np.array([[[1.0, 9.0], [0.1, 1.0]], [[1.0, 0.1], [0.2, 1.0]], [[1.0, 0.1], [0.2, 1.0]]])
        assert that_stay(p, ["a", "b", "c"], 1)[["i", "j", "times"]].to_numpy().tolist() == [[1, 0, 2], [0, 1, 1]]

    def test_a_pair_without_a_value_somewhere_has_no_mean_and_comes_last_among_equals(self) -> None:
        p = np.array([[[1.0, 0.4], [np.nan, 1.0]], [[1.0, np.nan], [0.1, 1.0]], [[1.0, 0.4], [0.1, 1.0]]])
        actual = that_stay(p, ["a", "b", "c"], 2)
        assert actual["times"].tolist() == [2, 2]
        assert actual["mean"].isna().all()
        first = np.array([[[1.0, 0.1], [0.5, 1.0]], [[1.0, 0.1], [np.nan, 1.0]]])
        actual = that_stay(first, ["a", "b"], 1)
        assert actual[["i", "j"]].to_numpy().tolist() == [[0, 1], [1, 0]]
