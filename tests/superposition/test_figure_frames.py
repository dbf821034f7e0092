"""The frames that figures are drawn from: densities and their nulls, angles, descriptions and bands."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from kis_core.superposition import (
    ISOTROPIC,
    MEASURED,
    SAME_STD,
    TAILS,
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
CURVE_COLUMNS, LAYER_COLUMNS = ["at", "density", "curve"], ["layer", "at", "density"]
BAND_COLUMNS = ["x", "middle", "low", "high", "note"]
SHAPELESS = pytest.mark.parametrize(
    "p",
    [np.ones((1, 1)), np.full((4, 4), 0.3), np.full((4, 4), np.nan)],
    ids=["one fact", "constant", "zero keys"],
)


def some_p(seed: int = 0, *, m: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, size=(m, m)) / 10 + 0.02


def with_zero_key(p: np.ndarray, at: int = 2) -> np.ndarray:
    p = p.copy()
    p[at] = p[:, at] = np.nan
    return p


def scipys_density(p: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.stats.gaussian_kde(finite_entries(p))(at))


def assert_density(found: pd.DataFrame, p: np.ndarray) -> None:
    expected = scipys_density(p, found["at"].to_numpy())
    np.testing.assert_allclose(found["density"], expected, rtol=0, atol=BINNED * expected.max())


def curve(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["curve"] == name]


def cosines_of(angles: list[list[float]]) -> np.ndarray:
    return np.cos(np.radians(angles))


class TestDensityCurves:
    @pytest.mark.parametrize("p", [some_p(), with_zero_key(some_p()), TWO], ids=["30 facts", "a zero key", "two facts"])
    def test_are_scipys_at_the_same_places(self, p: np.ndarray) -> None:
        found, entries = density_curves(p, WIDTH), finite_entries(p)
        assert found.columns.tolist() == CURVE_COLUMNS
        assert found["curve"].unique().tolist() == [MEASURED, SAME_STD, ISOTROPIC]
        measured = curve(found, MEASURED)
        assert_density(measured, p)
        nulls = {SAME_STD: (entries.mean(), entries.std()), ISOTROPIC: (0.0, WIDTH**-0.5)}
        for name, (mean, std) in nulls.items():
            null = curve(found, name)
            assert null["at"].tolist() == measured["at"].tolist()
            np.testing.assert_allclose(null["density"], scipy.stats.norm(mean, std).pdf(null["at"]), rtol=ROUNDING)

    def test_keep_to_a_span(self) -> None:
        found = density_curves(some_p(), WIDTH, span=(-0.5, 0.25))
        assert found.groupby("curve")["at"].agg(["min", "max"]).to_numpy().tolist() == [[-0.5, 0.25]] * 3
        assert_density(curve(found, MEASURED), some_p())

    def test_names_differ(self) -> None:
        assert len({MEASURED, SAME_STD, ISOTROPIC}) == 3

    @SHAPELESS
    def test_are_empty_without_a_density(self, p: np.ndarray) -> None:
        found = density_curves(p, WIDTH)
        assert found.empty
        assert found.columns.tolist() == CURVE_COLUMNS


class TestDensityFloor:
    def test_of_two_facts_by_hand(self) -> None:
        # entries 0.25 and 0.75: std √(2 · 0.25²) = 0.35355, times 2^-0.2 a bandwidth of 0.30779;
        # one of two entries makes 0.39894 / (2 · 0.30779) = 0.64809, a fifth of it 0.12962
        assert density_floor(TWO) == pytest.approx(0.12962, abs=1e-5)

    @pytest.mark.parametrize("p", [some_p(), with_zero_key(some_p())], ids=["30 facts", "a zero key"])
    def test_is_a_fifth_of_what_a_lone_entry_makes(self, p: np.ndarray) -> None:
        p[0, 1] = 50.0
        lone = scipys_density(p, np.array([50.0]))[0]
        assert density_floor(p) == pytest.approx(lone / 5, rel=ROUNDING)

    @SHAPELESS
    def test_is_nan_without_a_density(self, p: np.ndarray) -> None:
        assert np.isnan(density_floor(p))


class TestLayerDensities:
    SPAN = (-0.6, 0.5)

    def test_are_scipys_in_every_layer_over_one_span(self) -> None:
        p = np.stack([some_p(0), with_zero_key(some_p(1)), 0.3 * some_p(2)])
        found = layer_densities(p, [7, 3, 5], span=self.SPAN)
        assert found.columns.tolist() == LAYER_COLUMNS
        assert found["layer"].unique().tolist() == [7, 3, 5]
        assert found.index.tolist() == list(range(len(found)))
        for layer, one in zip([7, 3, 5], p, strict=True):
            part = found[found["layer"] == layer]
            assert (part["at"].iloc[0], part["at"].iloc[-1]) == self.SPAN
            assert_density(part, one)

    @pytest.mark.parametrize("points", [20, 160])
    def test_take_about_as_many_points_a_layer(self, points: int) -> None:
        found = layer_densities(np.stack([some_p(0), some_p(1)]), [0, 1], span=self.SPAN, points=points)
        assert all(points - 3 <= count <= points for count in found["layer"].value_counts())

    def test_take_160_by_default(self) -> None:
        p = some_p()[None]
        assert layer_densities(p, [0], span=self.SPAN).equals(layer_densities(p, [0], span=self.SPAN, points=160))

    def test_of_one_layer_of_two_facts(self) -> None:
        found = layer_densities(TWO[None], [4], span=self.SPAN)
        assert found["layer"].unique().tolist() == [4]
        assert_density(found, TWO)

    @SHAPELESS
    def test_a_layer_without_a_density_has_no_rows(self, p: np.ndarray) -> None:
        shaped = some_p(m=len(p)) if len(p) > 1 else p
        found = layer_densities(np.stack([p, shaped]), [0, 1], span=self.SPAN)
        assert found["layer"].unique().tolist() == ([1] if len(p) > 1 else [])

    @SHAPELESS
    def test_of_such_layers_alone_are_an_empty_frame(self, p: np.ndarray) -> None:
        for count in (0, 1, 2):
            found = layer_densities(np.stack([p, p])[:count], range(count), span=self.SPAN)
            assert found.empty
            assert found.columns.tolist() == LAYER_COLUMNS

    def test_every_layer_needs_its_number(self) -> None:
        with pytest.raises(ValueError, match="longer"):
            layer_densities(np.stack([some_p(), some_p(1)]), [0], span=self.SPAN)


class TestDescription:
    NAMES = ("pairs", "mean", "std", "skewness", "excess kurtosis", "from", "to")
    QUANTILES = ("0.1%", "1.0%", "5.0%", "50.0%", "95.0%", "99.0%", "99.9%")

    @pytest.mark.parametrize("p", [some_p(), with_zero_key(some_p())], ids=["30 facts", "a zero key"])
    def test_is_scipys_by_name(self, p: np.ndarray) -> None:
        interval, entries = kurtosis_interval(p), finite_entries(p)
        found = description(p, moments(p), interval)
        expected = [len(entries), entries.mean(), entries.std(), scipy.stats.skew(entries)]
        expected += [scipy.stats.kurtosis(entries), interval.low, interval.high, *np.quantile(entries, TAILS)]
        assert tuple(found) == self.NAMES + self.QUANTILES
        assert list(found.values()) == pytest.approx(expected, rel=ROUNDING)
        assert all(isinstance(value, float) for value in found.values())

    def test_of_two_facts_by_hand(self) -> None:
        found = description(TWO, moments(TWO), kurtosis_interval(TWO))
        assert [found[name] for name in self.NAMES[:5]] == [2.0, 0.5, 0.25, 0.0, -2.0]
        assert [found[name] for name in ("5.0%", "50.0%", "95.0%")] == pytest.approx([0.275, 0.5, 0.725], rel=ROUNDING)
        assert np.isnan([found["from"], found["to"]]).all()

    @pytest.mark.parametrize("p", [np.ones((1, 1)), np.full((4, 4), np.nan)], ids=["one fact", "zero keys"])
    def test_of_nothing_counts_no_pairs(self, p: np.ndarray) -> None:
        found = description(p, moments(p), kurtosis_interval(p))
        assert found.pop("pairs") == 0.0
        assert np.isnan(list(found.values())).all()

    def test_of_constant_entries_has_a_mean_and_quantiles_but_no_shape(self) -> None:
        p = np.full((4, 4), 0.5)
        found = description(p, moments(p), kurtosis_interval(p))
        assert [found[name] for name in ("pairs", "mean", "std", *self.QUANTILES)] == [12.0, 0.5, 0.0] + [0.5] * 7
        assert np.isnan([found[name] for name in self.NAMES[3:]]).all()


class TestAngleShares:
    def test_by_hand(self) -> None:
        angles = cosines_of([[0, 45, 100], [170, 0, 45], [180, 0, 0]])
        found = angle_shares({"whitening": angles, "activation": np.eye(3)}, width=30)
        assert found.columns.tolist() == ["low", "high", "share", "space"]
        assert found["space"].tolist() == ["whitening"] * 6 + ["activation"] * 6
        assert found["low"].tolist() == [0, 30, 60, 90, 120, 150] * 2
        assert found["high"].tolist() == [30, 60, 90, 120, 150, 180] * 2
        expected = [1 / 6, 2 / 6, 0, 1 / 6, 0, 2 / 6, 0, 0, 0, 1, 0, 0]  # the last bar holds 180 degrees too
        assert found["share"].tolist() == pytest.approx(expected, rel=ROUNDING)
        assert found.index.tolist() == list(range(12))

    def test_bars_are_a_degree_wide_by_default(self) -> None:
        found = angle_shares({"a": cosines_of([[0, 90.5], [0.5, 0]])})
        assert found["low"].tolist() == list(range(180))
        assert found[found["share"] > 0][["low", "high", "share"]].to_numpy().tolist() == [[0, 1, 0.5], [90, 91, 0.5]]

    @given(st.integers(0, 100_000), st.integers(2, 9), st.sampled_from([0.5, 1.0, 4.0, 180.0]))
    def test_shares_add_up_to_one(self, seed: int, m: int, width: float) -> None:
        found = angle_shares({"a": np.random.default_rng(seed).uniform(-1, 1, size=(m, m))}, width=width)
        assert len(found) == round(180 / width)
        assert found["share"].sum() == pytest.approx(1.0, rel=ROUNDING)

    def test_a_zero_key_is_left_out(self) -> None:
        angles = cosines_of([[0, 45, 0], [170, 0, 0], [0, 0, 0]])
        found, expected = (angle_shares({"a": one}) for one in (with_zero_key(angles), angles[:2, :2]))
        assert found.equals(expected)

    @pytest.mark.parametrize("cosine", [np.ones((1, 1)), np.full((3, 3), np.nan)], ids=["one fact", "zero keys"])
    def test_without_angles_all_bars_are_empty(self, cosine: np.ndarray) -> None:
        found = angle_shares({"a": cosine}, width=10)
        assert found["share"].tolist() == [0.0] * 18


class TestAngleSpreads:
    def test_by_hand(self) -> None:
        near, far = cosines_of([[0, 60], [90, 0]]), cosines_of([[0, 90], [100, 0]])
        found = angle_spreads({"whitening": np.stack([near, far]), "activation": np.stack([far, near])}, [5, 2])
        assert found.columns.tolist() == ["layer", "space", "mean", "std"]
        assert found["layer"].tolist() == [5, 2, 5, 2]
        assert found["space"].tolist() == ["whitening", "whitening", "activation", "activation"]
        assert found["mean"].tolist() == pytest.approx([75, 95, 95, 75], rel=ROUNDING)
        assert found["std"].tolist() == pytest.approx([15, 5, 5, 15], rel=ROUNDING)

    def test_a_zero_key_is_left_out(self) -> None:
        angles = cosines_of([[0, 60, 0], [90, 0, 0], [0, 0, 0]])
        [row] = angle_spreads({"a": with_zero_key(angles)[None]}, [0]).to_dict("records")
        assert (row["mean"], row["std"]) == pytest.approx((75, 15), rel=ROUNDING)

    def test_equal_angles_do_not_spread(self) -> None:
        [row] = angle_spreads({"a": np.eye(4)[None]}, [0]).to_dict("records")
        assert (row["mean"], row["std"]) == pytest.approx((90, 0), abs=ROUNDING)

    @pytest.mark.parametrize("cosine", [np.ones((1, 1)), np.full((3, 3), np.nan)], ids=["one fact", "zero keys"])
    def test_are_nan_without_angles(self, cosine: np.ndarray) -> None:
        [row] = angle_spreads({"a": cosine[None]}, [8]).to_dict("records")
        assert (row["layer"], row["space"]) == (8, "a")
        assert np.isnan([row["mean"], row["std"]]).all()

    def test_every_layer_needs_its_number(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            angle_spreads({"a": np.eye(3)[None]}, [0, 1])


class TestBands:
    @staticmethod
    def found(by_size: dict[int, list[float]]) -> pd.DataFrame:
        rows = [(size, draw, value) for size, values in by_size.items() for draw, value in enumerate(values)]
        return pd.DataFrame(rows, columns=["m", "draw", "kurtosis"])

    def test_by_hand(self) -> None:
        found = bands(self.found({32: [7.0], 16: [5.0, 1.0, 4.0, 2.0, 3.0]}), level=0.5)
        assert found.columns.tolist() == BAND_COLUMNS
        assert found.to_numpy().tolist() == [[16, 3, 2, 4, "5 random subsets"], [32, 7, 7, 7, "all facts"]]

    def test_are_numpys_quantiles_of_95_per_cent_by_default(self) -> None:
        frame = convergence(some_p(), draws=20)
        found, drawn = bands(frame), frame[frame["m"] == 16]["kurtosis"]
        first = found.iloc[0]
        assert found["x"].tolist() == [16, 30]
        expected = np.quantile(drawn, [0.5, 0.025, 0.975])
        assert [first["middle"], first["low"], first["high"]] == pytest.approx(expected.tolist(), rel=ROUNDING)
        assert found["note"].tolist() == ["20 random subsets", "all facts"]

    def test_draws_without_a_kurtosis_are_left_out(self) -> None:
        found = bands(self.found({16: [np.nan, 1.0, 3.0, np.nan, 2.0], 32: [1.0]}), level=1.0)
        assert found.iloc[0][["middle", "low", "high"]].tolist() == [2.0, 1.0, 3.0]

    def test_are_nan_where_no_draw_has_one(self) -> None:
        found = bands(self.found({16: [np.nan, np.nan], 32: [4.0]}))
        assert found["x"].tolist() == [16, 32]
        assert found[["middle", "low", "high"]].isna().to_numpy().tolist() == [[True] * 3, [False] * 3]

    def test_a_single_draw_is_not_all_facts(self) -> None:
        notes = bands(convergence(some_p(), draws=1))["note"].tolist()
        assert notes[-1] == "all facts"
        assert notes[0] != "all facts"

    @SHAPELESS
    def test_without_a_shape_have_one_row_of_nan(self, p: np.ndarray) -> None:
        [row] = bands(convergence(p)).to_dict("records")
        assert (row["x"], row["note"]) == (len(p), "all facts")
        assert np.isnan([row["middle"], row["low"], row["high"]]).all()

    def test_of_nothing_are_an_empty_frame(self) -> None:
        found = bands(self.found({}))
        assert found.empty
        assert found.columns.tolist() == BAND_COLUMNS
