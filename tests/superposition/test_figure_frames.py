"""The frames that figures are drawn from: densities and their nulls, angles, descriptions and bands."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from kis_core.superposition import (
    ISOTROPIC,
    MEASURED,
    SAME_STD,
    Interval,
    angle_shares,
    angle_spreads,
    bands,
    convergence,
    density_curves,
    density_floor,
    description,
    finite_entries,
    kurtosis_interval,
    layer_densities,
    moments,
)

ROUNDING = 1e-9  # relative, of a few float64 operations
BINNED = 1e-3  # of the peak: what counting in cells may cost
WIDTH = 40
TWO = np.array([[1.0, 0.25], [0.75, 1.0]])
SHAPELESS = {"one fact": np.ones((1, 1)), "constant": np.full((4, 4), 0.3), "zero keys": np.full((4, 4), np.nan)}
EMPTY = ("one fact", "zero keys")


def some_p(seed: int = 0, *, m: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, size=(m, m)) / 10 + 0.02


def with_zero_key(p: np.ndarray, at: int = 2) -> np.ndarray:
    p = p.copy()
    p[at] = p[:, at] = np.nan
    return p


def scipys_density(p: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.stats.gaussian_kde(finite_entries(p))(at))


def assert_density(frame: pd.DataFrame, p: np.ndarray) -> None:
    expected = scipys_density(p, frame["at"].to_numpy())
    np.testing.assert_allclose(frame["density"], expected, rtol=0, atol=BINNED * expected.max())


def cosines_of(angles: list[list[float]]) -> np.ndarray:
    return np.cos(np.radians(angles))


class TestDensityCurves:
    @pytest.mark.parametrize("p", [with_zero_key(some_p()), TWO], ids=["a zero key", "two facts"])
    def test_are_scipys_at_the_same_places(self, p: np.ndarray) -> None:
        actual, entries = density_curves(p, WIDTH), finite_entries(p)
        assert actual.columns.tolist() == ["at", "density", "curve"]
        curves = {str(name): part for name, part in actual.groupby("curve", sort=False)}
        assert list(curves) == [MEASURED, SAME_STD, ISOTROPIC]
        assert_density(curves[MEASURED], p)
        for name, mean, std in ((SAME_STD, entries.mean(), entries.std()), (ISOTROPIC, 0.0, WIDTH**-0.5)):
            null = curves[name]
            assert null["at"].tolist() == curves[MEASURED]["at"].tolist()
            np.testing.assert_allclose(null["density"], scipy.stats.norm(mean, std).pdf(null["at"]), rtol=ROUNDING)

    def test_keep_to_a_span(self) -> None:
        actual = density_curves(some_p(), WIDTH, span=(-0.5, 0.25))
        assert actual.groupby("curve")["at"].agg(["min", "max"]).to_numpy().tolist() == [[-0.5, 0.25]] * 3


class TestDensityFloor:
    def test_of_two_facts_by_hand(self) -> None:
        # entries 0.25 and 0.75: std √(2 · 0.25²) = 0.35355, times 2^-0.2 a bandwidth of 0.30779;
        # one of two entries makes 0.39894 / (2 · 0.30779) = 0.64809, a fifth of it 0.12962
        assert density_floor(TWO) == pytest.approx(0.12962, abs=1e-5)

    def test_is_a_fifth_of_what_a_lone_entry_makes(self) -> None:
        p = with_zero_key(some_p())
        p[0, 1] = 50.0
        assert density_floor(p) == pytest.approx(scipys_density(p, np.array([50.0]))[0] / 5, rel=ROUNDING)


class TestLayerDensities:
    SPAN = (-0.6, 0.5)

    def test_are_scipys_in_every_layer_over_one_span(self) -> None:
        p = np.stack([some_p(0), with_zero_key(some_p(1)), 0.3 * some_p(2)])
        actual = layer_densities(p, [7, 3, 5], span=self.SPAN)
        assert actual.columns.tolist() == ["layer", "at", "density"]
        assert actual["layer"].unique().tolist() == [7, 3, 5]
        assert actual.index.tolist() == list(range(len(actual)))
        for layer, layer_p in zip([7, 3, 5], p, strict=True):
            part = actual[actual["layer"] == layer]
            assert (part["at"].iloc[0], part["at"].iloc[-1]) == self.SPAN
            assert_density(part, layer_p)
        few = layer_densities(p, [7, 3, 5], span=self.SPAN, points=20)
        assert all(17 <= count <= 20 for count in few["layer"].value_counts())


@pytest.mark.parametrize("p", SHAPELESS.values(), ids=SHAPELESS)
def test_without_a_shape_there_is_no_density(p: np.ndarray) -> None:
    curves = density_curves(p, WIDTH)
    assert (len(curves), curves.columns.tolist()) == (0, ["at", "density", "curve"])
    assert np.isnan(density_floor(p))
    layers = layer_densities(p[None], [0], span=(-0.6, 0.5))
    assert (len(layers), layers.columns.tolist()) == (0, ["layer", "at", "density"])
    [row] = bands(convergence(p)).to_dict("records")
    assert (row["x"], row["note"]) == (len(p), "all facts")
    assert np.isnan([row["middle"], row["low"], row["high"]]).all()


class TestDescription:
    NAMES = ("pairs", "mean", "std", "skewness", "excess kurtosis", "from", "to")
    QUANTILES = ("0.1%", "1.0%", "5.0%", "50.0%", "95.0%", "99.0%", "99.9%")

    def test_of_two_facts_by_hand(self) -> None:
        actual = description(TWO, moments(TWO), Interval(-3.0, 4.0))
        assert tuple(actual) == self.NAMES + self.QUANTILES
        assert [actual[name] for name in self.NAMES] == [2.0, 0.5, 0.25, 0.0, -2.0, -3.0, 4.0]
        assert [actual[name] for name in ("5.0%", "50.0%", "95.0%")] == pytest.approx([0.275, 0.5, 0.725], rel=ROUNDING)

    def test_of_nothing_counts_no_pairs_and_of_constant_entries_has_no_shape(self) -> None:
        for p in (SHAPELESS[name] for name in EMPTY):
            actual = description(p, moments(p), kurtosis_interval(p))
            assert actual.pop("pairs") == 0.0
            assert np.isnan(list(actual.values())).all()
        p = np.full((4, 4), 0.5)
        actual = description(p, moments(p), kurtosis_interval(p))
        assert [actual[name] for name in ("pairs", "mean", "std", *self.QUANTILES)] == [12.0, 0.5, 0.0] + [0.5] * 7
        assert np.isnan([actual[name] for name in self.NAMES[3:]]).all()


class TestAngleShares:
    def test_by_hand(self) -> None:
        angles = cosines_of([[0, 45, 100], [170, 0, 45], [180, 0, 0]])
        actual = angle_shares({"whitening": angles, "activation": np.eye(3)}, width=30)
        assert actual.columns.tolist() == ["low", "high", "share", "space"]
        assert actual["space"].tolist() == ["whitening"] * 6 + ["activation"] * 6
        assert actual["low"].tolist() == [0, 30, 60, 90, 120, 150] * 2
        assert actual["high"].tolist() == [30, 60, 90, 120, 150, 180] * 2
        expected = [1 / 6, 2 / 6, 0, 1 / 6, 0, 2 / 6, 0, 0, 0, 1, 0, 0]  # the last bar holds 180 degrees too
        assert actual["share"].tolist() == pytest.approx(expected, rel=ROUNDING)
        by_degree = angle_shares({"a": cosines_of([[0, 90.5], [0.5, 0]])})
        bars = by_degree.loc[by_degree["share"] > 0, ["low", "high", "share"]]
        assert bars.to_numpy().tolist() == [[0, 1, 0.5], [90, 91, 0.5]]

    def test_a_zero_key_is_left_out_and_without_angles_all_bars_are_empty(self) -> None:
        angles = cosines_of([[0, 45, 0], [170, 0, 0], [0, 0, 0]])
        actual, expected = (angle_shares({"a": cosines}) for cosines in (with_zero_key(angles), angles[:2, :2]))
        assert actual.equals(expected)
        for p in (SHAPELESS[name] for name in EMPTY):
            assert angle_shares({"a": p}, width=10)["share"].tolist() == [0.0] * 18


class TestAngleSpreads:
    def test_by_hand(self) -> None:
        near, far = cosines_of([[0, 60], [90, 0]]), cosines_of([[0, 90], [100, 0]])
        actual = angle_spreads({"whitening": np.stack([near, far]), "activation": np.stack([far, near])}, [5, 2])
        assert actual.columns.tolist() == ["layer", "space", "mean", "std"]
        assert actual["layer"].tolist() == [5, 2, 5, 2]
        assert actual["space"].tolist() == ["whitening", "whitening", "activation", "activation"]
        assert actual["mean"].tolist() == pytest.approx([75, 95, 95, 75], rel=ROUNDING)
        assert actual["std"].tolist() == pytest.approx([15, 5, 5, 15], rel=ROUNDING)

    def test_a_zero_key_is_left_out_and_without_angles_they_are_nan(self) -> None:
        angles = cosines_of([[0, 60, 0], [90, 0, 0], [0, 0, 0]])
        [row] = angle_spreads({"a": with_zero_key(angles)[None]}, [0]).to_dict("records")
        assert (row["mean"], row["std"]) == pytest.approx((75, 15), rel=ROUNDING)
        for p in (SHAPELESS[name] for name in EMPTY):
            [row] = angle_spreads({"a": p[None]}, [8]).to_dict("records")
            assert np.isnan([row["mean"], row["std"]]).all()


class TestBands:
    @staticmethod
    def drawn(by_size: dict[int, list[float]]) -> pd.DataFrame:
        rows = [(size, draw, value) for size, values in by_size.items() for draw, value in enumerate(values)]
        return pd.DataFrame(rows, columns=["m", "draw", "kurtosis"])

    def test_by_hand(self) -> None:
        actual = bands(self.drawn({32: [7.0], 16: [5.0, np.nan, 1.0, 4.0, 2.0, 3.0]}), level=0.5)
        assert actual.columns.tolist() == ["x", "middle", "low", "high", "note"]
        assert actual.to_numpy().tolist() == [[16, 3, 2, 4, "6 random subsets"], [32, 7, 7, 7, "all facts"]]
        assert bands(self.drawn({})).empty
        by_default = bands(self.drawn({16: np.arange(201.0).tolist(), 32: [1.0]})).iloc[0]
        assert by_default[["middle", "low", "high"]].tolist() == pytest.approx([100.0, 5.0, 195.0])

    def test_a_single_draw_is_not_all_facts(self) -> None:
        assert bands(convergence(some_p(), draws=1))["note"].tolist() == ["1 random subset", "all facts"]
