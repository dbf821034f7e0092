"""Methods of editing against their formulas, and what they have in common with P."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import editing
from kis_core.covariance.whitener import Whitener
from kis_core.editing import Edit, EditError, Hyperparameters, RankOne, Value
from kis_core.editing.method import LEAST_AGREEMENT
from kis_core.superposition.matrix import superposition
from tests.editing.sequence_tools import FORMULA, close

WRITTEN = 1e-5  # W'k_e = v_e, relative to the largest number of v_e: RELIABILITY case 15
EXACT = 1e-12  # a few float64 roundings
WIDTH, MLP_WIDTH = 5, 9
NAMES = ("rome", "r-rome", "identity")
PLAIN, MEAN = Hyperparameters(mean_key=False), Hyperparameters(mean_key=True)
seeds = st.integers(0, 100_000)


def method(name: str) -> RankOne:
    return editing.rank_one_method(name)


def some_c(rng: np.random.Generator) -> np.ndarray:
    """A second moment with a mean, as keys have one."""
    sample = rng.normal(size=(60, MLP_WIDTH)) * rng.uniform(0.2, 3, size=MLP_WIDTH) + rng.normal(size=MLP_WIDTH)
    return sample.T @ sample / 60


def some_value(rng: np.random.Generator, weight: np.ndarray, bias: np.ndarray, *, everywhere: bool = False) -> Value:
    """A value found at a layer of this weight and bias, in four contexts."""
    keys = rng.normal(size=MLP_WIDTH) + rng.normal(size=(4, MLP_WIDTH)) / 3
    outputs = keys @ weight.T + bias
    means = {"mean_key": keys.mean(axis=0), "mean_output": outputs.mean(axis=0)}
    delta = rng.normal(size=WIDTH)
    return Value(delta=delta, key=keys[0], output=outputs[0], **means, losses=(), probability=1, everywhere=everywhere)


class TestReach:
    KEY, MEAN_KEY, C = np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.diag([1.0, 4.0])

    @pytest.mark.parametrize(
        ("name", "how", "expected"),
        [
            ("rome", PLAIN, [1 / 2, 1 / 4]),  # C⁻¹k = (1, 1/2), its product with k is 2
            ("rome", MEAN, [4 / 5, 1 / 10]),  # C⁻¹k̄ = (2, 1/4), with k: 5/2
            ("r-rome", PLAIN, [8 / 17, 1 / 17]),  # C⁻¹k̄ again, with k̄: 17/4
            ("r-rome", MEAN, [8 / 17, 1 / 17]),
            ("identity", PLAIN, [1 / 5, 2 / 5]),  # k, with k: 5
            ("identity", MEAN, [1 / 2, 1 / 4]),  # k̄, with k: 4
        ],
    )
    def test_by_hand(self, name: str, how: Hyperparameters, expected: list[float]) -> None:
        actual = method(name).reach(self.KEY, self.MEAN_KEY, Whitener.fit(self.C), how)
        np.testing.assert_allclose(actual, expected, rtol=EXACT)

    @given(seeds)
    def test_romes_shares_are_a_row_of_p_and_those_of_identity_one_of_q(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        c, keys = some_c(rng), rng.normal(size=(6, MLP_WIDTH))
        whitener = Whitener.fit(c)
        p = superposition(whitener.whiten(keys))
        for i, key in enumerate(keys):
            rome, identity = (
                Edit(0, method(name).reach(key, keys[0], whitener, PLAIN), np.ones(WIDTH)).coefficients(keys)
                for name in ("rome", "identity")
            )
            close(rome, p[i], FORMULA)
            close(identity, keys @ key / (key @ key), FORMULA)

    def test_a_singular_c_is_the_one_with_its_ridge(self) -> None:
        rng = np.random.default_rng(0)
        sample = rng.normal(size=(4, MLP_WIDTH))  # fewer tokens than dimensions
        whitener, key = Whitener.fit(sample.T @ sample / 4), rng.normal(size=MLP_WIDTH)
        assert whitener.ridge > 0
        actual = method("rome").reach(key, key, whitener, PLAIN)
        direction = np.linalg.solve(sample.T @ sample / 4 + whitener.ridge * np.eye(MLP_WIDTH), key)
        close(actual, direction / (direction @ key), 1e-7)  # the ridge leaves a condition of 1e7
        assert actual @ key == pytest.approx(1, rel=FORMULA)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(("size", "word"), [(0, "zero"), (1e-7, "next to zero"), (np.nan, "not finite")])
    def test_a_key_without_a_size_is_refused_in_words(self, name: str, size: float, word: str) -> None:
        """Also what float32 leaves of zero."""
        key = size * self.KEY
        with pytest.raises(EditError, match=f"the key of this fact is {word} .* choose another layer"):
            method(name).reach(key, key, Whitener.fit(self.C), MEAN)


class TestOwnKey:
    """Where the mean key has next to nothing of the prompt's own: a subject that begins its sentence, say."""

    KEY, C = np.array([1.0, 2.0]), np.diag([1.0, 4.0])
    ACROSS = np.array([1.0, -2.0])  # k̄ᵀC⁻¹k = 1 - 1, and k̄ᵀk = 1 - 4

    @pytest.mark.parametrize(
        ("name", "eq_2"), [("rome", [1 / 2, 1 / 4]), ("r-rome", [1 / 2, 1 / 4]), ("identity", [1 / 5, 2 / 5])]
    )
    def test_a_mean_key_across_it_gives_way_to_eq_2(self, name: str, eq_2: list[float]) -> None:
        one, whitener = method(name), Whitener.fit(self.C)
        assert one.takes_own_key(self.KEY, self.ACROSS, whitener, MEAN)
        np.testing.assert_allclose(one.reach(self.KEY, self.ACROSS, whitener, MEAN), eq_2, rtol=EXACT)
        delta, output, other = np.array([3.0, 4.0]), np.array([1.0, 1.0]), np.array([50.0, 50.0])
        value = Value(delta, self.KEY, output, self.ACROSS, other, losses=(), probability=1, everywhere=False)
        made = one.edit(value, whitener, 0, MEAN)
        np.testing.assert_allclose(made.reach, eq_2, rtol=EXACT)
        np.testing.assert_allclose(made.delta, delta, rtol=EXACT)  # r-ROME's as well: nothing of the mean is left

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("cosine", "own"), [(-1.0, True), (0.0, True), (0.149, True), (0.151, False), (1.0, False)]
    )
    def test_the_threshold_is_on_the_cosine_in_the_metric_of_the_edit(
        self, name: str, cosine: float, own: bool
    ) -> None:
        """Keys built in whitened space (plain space for C = I), at that angle, of any length."""
        root = np.eye(2) if name == "identity" else np.sqrt(self.C)
        key, mean = root @ [3.0, 0.0], root @ [7 * cosine, 7 * np.sqrt(1 - cosine**2)]
        whitener = Whitener.fit(self.C)
        assert method(name).takes_own_key(key, mean, whitener, MEAN) == own
        plain = method(name).takes_own_key(key, mean, whitener, PLAIN)
        assert plain == (own and name == "r-rome"), "without a mean key there is nothing to give way"

    @given(seeds, st.sampled_from(["rome", "identity"]), st.floats(0, 1))
    def test_no_edit_reaches_further_than_so_many_times_eq_2(self, seed: int, name: str, towards: float) -> None:
        """√(uᵀM⁻¹u), how far it reaches, is at most 1 / LEAST_AGREEMENT of eq. 2's: no denominator comes near zero."""
        rng = np.random.default_rng(seed)
        c, key, other = some_c(rng), rng.normal(size=MLP_WIDTH), rng.normal(size=MLP_WIDTH)
        metric = np.eye(MLP_WIDTH) if name == "identity" else c
        mean = towards * key + (1 - towards) * (other - (other @ np.linalg.solve(metric, key)) * key)
        reach = method(name).reach(key, mean, Whitener.fit(c), MEAN)
        assert reach @ key == pytest.approx(1, rel=FORMULA)
        eq_2 = 1 / np.sqrt(key @ np.linalg.solve(metric, key))
        assert np.sqrt(reach @ metric @ reach) <= (1 + FORMULA) / LEAST_AGREEMENT * eq_2


class TestMethods:
    @given(seeds, st.booleans(), st.booleans())
    def test_the_key_gets_its_new_value(self, seed: int, mean_key: bool, everywhere: bool) -> None:
        """W'k_e = v_e for ROME whichever key it reaches along, and W'k̄ = v* for r-ROME."""
        rng = np.random.default_rng(seed)
        weight, bias = rng.normal(size=(WIDTH, MLP_WIDTH)), rng.normal(size=WIDTH)
        value, whitener = some_value(rng, weight, bias, everywhere=everywhere), Whitener.fit(some_c(rng))
        how = Hyperparameters(mean_key=mean_key)
        for name in NAMES:
            made = method(name).edit(value, whitener, 3, how)
            edited = weight + np.outer(made.delta, made.reach)
            key = value.mean_key if name == "r-rome" else value.key
            wanted = value.output + value.delta
            if name == "r-rome" and everywhere:  # then δ was found as what the mean key gets on top
                wanted = value.mean_output + value.delta
            close(edited @ key + bias, wanted, WRITTEN)
            assert made.layer == 3

    @given(seeds)
    def test_rome_is_the_update_of_its_authors_code(self, seed: int) -> None:
        """There ΔW = r uᵀ with a u of length 1 and r = (v* - W k) / (u·k)."""
        rng = np.random.default_rng(seed)
        weight, bias = rng.normal(size=(WIDTH, MLP_WIDTH)), rng.normal(size=WIDTH)
        value, c = some_value(rng, weight, bias), some_c(rng)
        left = np.linalg.solve(c, value.mean_key)
        left /= np.linalg.norm(left)
        right = (value.output + value.delta - (weight @ value.key + bias)) / (left @ value.key)
        made = method("rome").edit(value, Whitener.fit(c), 0, MEAN)
        close(np.outer(made.delta, made.reach), np.outer(right, left), FORMULA)
