"""Settings of an edit: what is refused, how they are written down, and where they come from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kis_core.editing import EditError, Hyperparameters, recipe, search
from kis_core.editing.hyperparameters import EARLY, PUBLISHED, PUBLISHED_OF, PUBLISHED_SPREAD, WIDE
from kis_core.models import catalog
from tests.editing.value_tools import IN_MALTA, running


def catalog_names() -> list[str]:
    return [entry.name for entry in catalog.entries()]


class TestHyperparameters:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"steps": 0}, "steps from 1 to 1000; 0 were asked for"),
            ({"steps": 1001}, "steps from 1 to 1000; 1001 were asked for"),
            ({"learning_rate": 0.0}, r"the learning rate has to lie in \(0, 10\]"),
            ({"learning_rate": math.nan}, "the learning rate has to lie"),
            ({"weight_decay": -0.1}, r"weight decay and KL factor in \[0, 100\]"),
            ({"kl": math.inf}, "KL factor"),
            ({"clamp": 0.0}, r"the clamp has to lie in \(0, 100\]"),
            ({"stop_loss": math.nan}, r"the loss to stop at in \[0, 100\]"),
            ({"prefixes": ((-1, 5),)}, "prefixes: 0 to 100 of them"),
            ({"prefixes": ((1, 5), (3, 0))}, "prefixes: .* 1 to 100 tokens long"),
            ({"prefixes": ((3, 101),)}, "prefixes: .* 1 to 100 tokens long"),
        ],
    )
    def test_out_of_range_says_what_is_in_range(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(EditError, match=message):
            Hyperparameters(**wrong)

    def test_the_ends_of_the_ranges_are_in_them_and_go_through_json(self) -> None:
        most = {"steps": 1000, "learning_rate": 10.0, "weight_decay": 100.0, "kl": 100.0, "clamp": 100.0}
        least = {"steps": 1, "weight_decay": 0.0, "kl": 0.0, "stop_loss": 0.0, "everywhere": True, "seed": 9}
        for ends in (most | {"stop_loss": 100.0, "prefixes": ((0, 1), (100, 100))}, least | {"prefixes": ()}):
            how = Hyperparameters(**ends)
            assert {name: getattr(how, name) for name in ends} == ends
            again = Hyperparameters(**json.loads(json.dumps(how.to_json())))
            assert (again, hash(again)) == (how, hash(how))


AS_PUBLISHED = {  # as ROME's and EasyEdit's files have it: layer, steps, learning rate, weight decay, clamp
    "gpt2-medium": (8, 20, 0.5, 0.5, 3),
    "gpt2-large": (12, 20, 0.5, 0.5, 4),
    "gpt2-xl": (17, 20, 0.5, 0.5, 4),
    "gpt-j-6b": (5, 20, 0.5, 0.5, 4),
    "EleutherAI/gpt-j-6b": (5, 20, 0.5, 0.5, 4),
    "llama-2-7b": (5, 25, 0.5, 1e-3, 4),
    "llama-3-8b": (5, 25, 0.5, 1e-3, 4),
    "mistral-7b-v0.1": (5, 25, 0.5, 1e-3, 4),
}


SPREAD_AS_PUBLISHED = {  # as MEMIT's and AlphaEdit's files have it: last layer, steps, learning rate
    "gpt2-xl": (17, 20, 0.5),
    "gpt-j-6b": (8, 25, 0.5),
    "EleutherAI/gpt-j-6b": (8, 25, 0.5),
    "llama-3-8b": (8, 25, 0.1),
}
OWN_AS_PUBLISHED = {  # last layer, steps, learning rate, weight decay, KL factor, clamp
    ("emmet", "gpt2-xl"): (17, 20, 0.5, 0.5, 0.0625, 0.75),
    ("emmet", "gpt-j-6b"): (5, 25, 0.5, 0.5, 0.0625, 0.75),
    ("emmet", "llama-2-7b"): (5, 25, 0.5, 1e-3, 0.0625, 4),
    ("pmet", "gpt-j-6b"): (8, 30, 0.2, 0.5, 1, 0.75),
    ("pmet", "llama-2-7b"): (8, 20, 0.5, 0.5, 0.0625, 1),  # EasyEdit's
}
ALIKE = {"kl": 0.0625, "stop_loss": 0.05, "mean_key": True, "everywhere": False, "seed": 0}
LAST_LOOK = 1  # of the steps in those files: the authors' loop ends before the update of its last round


class TestRecipe:
    @pytest.mark.parametrize("name", AS_PUBLISHED)
    def test_as_published(self, name: str) -> None:
        entry = catalog.find(name)
        assert entry
        actual = recipe(name, width=entry.width, layers=entry.layers)
        layer, steps, learning_rate, weight_decay, clamp = AS_PUBLISHED[name]
        how = {"learning_rate": learning_rate, "weight_decay": weight_decay, "clamp": clamp}
        expected = Hyperparameters(steps - LAST_LOOK, prefixes=((10, 5), (10, 10)), **how, **ALIKE)
        assert (actual.hyperparameters, actual.layer) == (expected, layer)
        assert actual.source in ("ROME's code", "EasyEdit's ROME settings")

    @pytest.mark.parametrize("name", SPREAD_AS_PUBLISHED)
    def test_memit_and_alphaedit_have_settings_of_their_own(self, name: str) -> None:
        entry = catalog.find(name)
        assert entry
        actual = recipe(name, width=entry.width, layers=entry.layers, spreads=True)
        layer, steps, learning_rate = SPREAD_AS_PUBLISHED[name]
        how = {"learning_rate": learning_rate, "weight_decay": 0.5, "clamp": 0.75}
        expected = Hyperparameters(steps - LAST_LOOK, prefixes=((5, 10),), **how, **ALIKE)
        assert (actual.hyperparameters, actual.layer) == (expected, layer)
        assert actual.source in ("MEMIT's code", "AlphaEdit's code")

    def test_emmet_and_pmet_have_theirs_and_elsewhere_memits(self) -> None:
        assert {(method, name) for method, table in PUBLISHED_OF.items() for name in table} == set(OWN_AS_PUBLISHED)
        for (method, name), (layer, steps, rate, decay, kl, clamp) in OWN_AS_PUBLISHED.items():
            entry = catalog.find(name)
            assert entry
            actual = recipe(name, width=entry.width, layers=entry.layers, spreads=True, method=method)
            how = {"learning_rate": rate, "weight_decay": decay, "clamp": clamp}
            expected = Hyperparameters(steps - LAST_LOOK, prefixes=((5, 10),), **how, **ALIKE | {"kl": kl})
            assert (actual.hyperparameters, actual.layer) == (expected, layer)
            assert method.upper() in actual.source
        others = {"width": 1600, "layers": 48, "spreads": True}
        assert recipe("gpt2-xl", method="memit-past", **others) == recipe("gpt2-xl", **others)
        assert "none published" in recipe("gpt2-xl", method="pmet", **others).source

    def test_where_none_is_published_memit_has_those_of_its_size(self) -> None:
        assert set(PUBLISHED) <= set(AS_PUBLISHED), "every published one is checked above"
        assert set(PUBLISHED_SPREAD) <= set(SPREAD_AS_PUBLISHED)
        actual = recipe("pythia-2.8b", width=2560, layers=32, spreads=True)
        assert (actual.hyperparameters, actual.layer) == (PUBLISHED_SPREAD["gpt2-xl"].hyperparameters, 6)
        assert actual.source == "MEMIT's; none published for this model"
        narrow = recipe("demo-gpt2-32", width=32, layers=4, spreads=True)
        assert narrow == recipe("demo-gpt2-32", width=32, layers=4)

    def test_the_authors_loop_of_so_many_steps_makes_these_updates(self) -> None:
        """On the model of two numbers, where the loss of "Rome" is that of logits 3 + δ₀ and 4 + δ₁."""
        delta = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=0.5)
        losses = []
        for step in range(20):
            optimizer.zero_grad()
            loss = -torch.log_softmax(torch.tensor([3.0, 4.0]) + delta, dim=0)[0] + 0.5 * delta.norm() / 25
            losses.append(float(loss.detach()))
            if step == 19:
                break
            loss.backward()
            optimizer.step()
        how = replace(PUBLISHED["gpt2-xl"].hyperparameters, kl=0, prefixes=(), clamp=100, stop_loss=0)
        actual = search(running(), IN_MALTA, "Rome", 0, how)
        assert actual.losses == pytest.approx(losses, abs=1e-5)
        assert actual.delta == pytest.approx(delta.detach().numpy(), abs=1e-5)
        assert len(actual.losses) == len(losses) == 20

    @pytest.mark.parametrize(
        ("name", "layer"),
        [("pythia-410m", 5), ("pythia-1b", 3), ("pythia-6.9b", 6), ("llama-3.1-8b", 6), ("org/unknown", 5)],
    )
    def test_where_none_is_published_it_says_so(self, name: str, layer: int) -> None:
        entry = catalog.find(name)
        sizes = {"width": entry.width, "layers": entry.layers} if entry else {"width": 2048, "layers": 24}
        actual = recipe(name, **sizes)
        assert (actual.layer, "none published" in actual.source) == (layer, True)
        how = actual.hyperparameters
        assert (how.steps, how.learning_rate, how.weight_decay, how.kl, how.clamp) == (19, 0.5, 0.5, 0.0625, 4)
        assert (how.mean_key, how.everywhere, how.prefixes) == (True, False, ((10, 5), (10, 10)))

    @pytest.mark.parametrize(
        ("name", "layer", "clamp", "found_on"),
        [
            ("smollm2-135m", 6, 1.5, "SmolLM2-135M"),
            ("gpt2", 2, 1.5, "SmolLM2-135M"),
            ("gemma-3-270m-q4_k_m", 4, 0.5, "Gemma 3 270M"),
            ("gemma-2-2b", 5, 0.5, "Gemma 3 270M"),
        ],
    )
    def test_small_models_and_those_with_a_norm_after_the_mlp_take_smaller_edits(
        self, name: str, layer: int, clamp: float, found_on: str
    ) -> None:
        entry = catalog.find(name)
        assert entry
        actual = recipe(name, width=entry.width, layers=entry.layers)
        assert (actual.layer, actual.source) == (layer, f"found on {found_on}")
        how = actual.hyperparameters
        assert (how.steps, how.learning_rate, how.weight_decay, how.kl, how.clamp) == (19, 0.5, 0.5, 0.0625, clamp)
        assert (how.mean_key, how.everywhere, how.prefixes) == (True, False, ((5, 10),))

    def test_the_demo_family_is_edited_first_thing_and_as_the_edit_will_act(self) -> None:
        for entry in catalog.demo():
            actual = recipe(entry.name, width=entry.width, layers=entry.layers)
            assert (actual.layer, actual.source) == (0, "found on the demo family")
            assert actual.hyperparameters == Hyperparameters(steps=60, learning_rate=0.5, everywhere=True)

    @given(st.integers(1, 20_000), st.integers(1, 200), st.sampled_from(["somewhere/else", "", *catalog_names()]))
    def test_of_any_size_a_layer_that_reaches_the_answer(self, width: int, layers: int, name: str) -> None:
        actual = recipe(name, width=width, layers=layers)
        assert 0 <= actual.layer <= max(0, layers - 2)
        if not catalog.find(name):
            assert actual.hyperparameters.everywhere == (width < WIDE)
            if width >= WIDE and layers > 2:
                assert abs(actual.layer - EARLY * layers) <= 0.5

    def test_the_size_from_which_on_the_published_way_is_taken(self) -> None:
        small, large = (recipe("x", width=width, layers=10) for width in (511, 512))
        assert (small.layer, small.hyperparameters.everywhere) == (0, True)
        assert (large.layer, large.hyperparameters.everywhere) == (2, False)

    def test_a_published_layer_counts_where_the_model_has_it_and_it_is_not_its_last(self) -> None:
        sources = [recipe("gpt2-medium", width=1024, layers=layers).source for layers in (8, 9, 10)]
        assert ["none published" in source for source in sources] == [True, True, False]
