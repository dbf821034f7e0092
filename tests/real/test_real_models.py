"""Two pretrained language models: what they know, and that the program reads them as transformers does."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kis_core.facts import REAL_NAME, Fact, builtin
from kis_core.models import catalog, loading
from kis_core.models.loaded import LoadedModel
from kis_core.scoring.answers import knows

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

REAL = [entry.name for entry in catalog.hub() if entry.package]
KNOWN = (
    Fact("Vladimir Mayakovsky", "{} is a native speaker of", "Russian"),
    Fact("Danielle Darrieux", "The mother tongue of {} is", "French"),
    Fact("Windows 95", "{} was developed by", "Microsoft"),
    Fact("Germany", "The capital of {} is", "Berlin"),
    Fact("the Eiffel Tower", "The city where you find {} is", "Paris"),
)


@pytest.fixture(scope="module", params=REAL)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return loading.load(catalog.locate(request.param), device="cpu")


def test_it_is_as_the_catalogue_has_it(loaded: LoadedModel) -> None:
    (entry,) = (one for one in catalog.hub() if one.package and one.parameters == loaded.model.num_parameters())
    assert (loaded.architecture.layers, *loaded.architecture.widths) == (entry.layers, entry.width, entry.mlp_width)
    assert loaded.context == entry.context
    assert catalog.locate(entry.name).quantisation == entry.quantisation


def test_it_knows_facts_of_the_world(loaded: LoadedModel) -> None:
    assert sum(knows(loaded, KNOWN)) >= 3


def test_it_answers_the_set_for_real_models(loaded: LoadedModel) -> None:
    chosen = builtin(REAL_NAME).facts
    assert [fact.text for fact, hit in zip(chosen, knows(loaded, chosen), strict=True) if not hit] == []


def test_logits_are_those_of_transformers(loaded: LoadedModel) -> None:
    entry = next(one for one in catalog.hub() if one.package and one.parameters == loaded.model.num_parameters())
    folder, options = catalog.locate(entry.name).source
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    text = "In 1800, Paris was the capital of France."
    tokens = tokenizer(text, return_tensors="pt")
    assert loaded.tokenizer(text)["input_ids"] == tokens["input_ids"][0].tolist()
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(**tokens).logits, theirs(**tokens).logits)
