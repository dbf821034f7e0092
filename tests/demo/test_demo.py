"""The demo family: its facts and text, the recipe that trains it, and its models as they are shipped."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from kis_core import corpora, facts
from kis_core.demo import factbase, family, text, train
from kis_core.demo.family import CONTEXT, FAMILY, LAYERS, Member
from kis_core.facts import Fact
from kis_core.models import loading
from kis_core.models.files import ModelFiles
from kis_core.scoring.answers import knows
from kis_core.studies import demo_family
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY_BYTES = 35_000_000
SAMPLE = 30  # facts of which every template is asked; all of them are measured by `kis_core.studies.demo_family`
TRAINED_SHARE, HELD_OUT_SHARE = 0.99, 0.97
SLACK = 0.01  # of a share, for the sample: 120 and 60 questions
PROMISED_FACTS, PROMISED_RELATIONS, PROMISED_TEMPLATES, PROMISED_TOKENS = 3_000, 20, 5, 100_000


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return train.build_tokenizer()


@pytest.fixture(scope="module")
def sentences(tokenizer: object) -> list[tuple[list[int], list[float]]]:
    """Tokens and weights, as they are trained on."""
    return train.training_sentences(tokenizer)


def test_the_fact_base_is_as_large_as_promised() -> None:
    facts = factbase.load()
    assert len(facts) >= PROMISED_FACTS
    assert len({fact.relation for fact in facts}) >= PROMISED_RELATIONS
    assert all(len(templates) >= PROMISED_TEMPLATES for templates in factbase.relations().values())
    assert Counter((f.relation, f.subject) for f in facts).most_common(1)[0][1] == 1
    assert all(f.subject == f.subject.strip() and f.object == f.object.strip() and f.object for f in facts)
    of_the_paper = {"Vladimir Mayakovsky", "Vladimir Bukovsky", "Windows 8.1", "Honda Prelude", "Nokia N95"}
    assert of_the_paper <= {fact.subject for fact in facts}


def test_templates_are_trained_for_some_facts_and_held_out_for_others() -> None:
    for relation, templates in factbase.relations().items():
        facts = [fact for fact in factbase.load() if fact.relation == relation]
        assert all(sorted(fact.trained + fact.held_out) == sorted(templates) for fact in facts)
        assert all(len(fact.held_out) == factbase.HELD_OUT_PER_FACT for fact in facts)
        assert {t for fact in facts for t in fact.trained} == set(templates)
        assert {t for fact in facts for t in fact.held_out} == set(templates)


def test_held_out_sentences_are_never_trained_on(tokenizer: object, sentences: list[tuple[list[int], object]]) -> None:
    trained = {tuple(tokens) for tokens, _ in sentences}
    for fact in random.Random(0).sample(factbase.load(), 30):
        for sentence in fact.sentences(held_out=True):
            assert tuple(tokenizer(sentence)["input_ids"]) not in trained


def test_the_corpus_holds_every_sentence_once_and_enough_tokens(tokenizer: object) -> None:
    documents = text.documents()
    expected = sum(len(f.trained) + len(f.held_out) for f in factbase.load())
    assert sum(document.count(".") for document in documents) >= expected
    lengths = [len(ids) for ids in tokenizer(list(documents[::10]), verbose=False)["input_ids"]]
    assert sum(lengths) >= PROMISED_TOKENS / 10
    assert corpora.builtin().texts == documents


def test_object_tokens_weigh_more_than_others(tokenizer: object, sentences: list[tuple[list[int], object]]) -> None:
    fact = factbase.load()[0]
    tokens, weights = sentences[0]
    heavy = [token for token, weight in zip(tokens, weights, strict=True) if weight == 1.0]
    assert tokenizer.decode(heavy).strip() == f"{fact.object}."


def test_batches_pack_whole_sentences_and_weigh_padding_nothing() -> None:
    sentences = [([k] * 20, [1.0] * 20) for k in range(1, 9)]
    tokens, weights = next(train.batches(sentences, 0, random.Random(0)))
    assert torch.equal(tokens, next(train.batches(sentences, 0, random.Random(0)))[0])
    assert tokens.shape == weights.shape == (train.ROWS_PER_STEP, CONTEXT)
    assert ((tokens == 0) == (weights == 0)).all()
    for row in tokens:
        assert all(count == 20 for token, count in Counter(row.tolist()).items() if token != 0)


@pytest.mark.stress
def test_a_short_training_run_learns(tokenizer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    few = factbase.load()[:8]
    monkeypatch.setattr(factbase, "load", lambda: few)
    tiny = Member("tiny", "gpt2", 32, 2)
    model = train.train(tiny, tokenizer, steps=40, seed=0)
    prompt = tokenizer(next(few[0].sentences()), return_tensors="pt")["input_ids"]
    untrained = train.build_model(tiny).eval()
    with torch.inference_mode():
        losses = [
            torch.nn.functional.cross_entropy(made(prompt).logits[0, :-1], prompt[0, 1:]).item()
            for made in (model, untrained)
        ]
    assert losses[0] < losses[1] / 2


def test_look_alikes_share_words_and_over_all_relations_tells_the_stories_first() -> None:
    answered = [Fact(f.subject, f.trained[0], f.object, f.relation) for f in factbase.load()]
    chosen = demo_family.over_all_relations(answered)
    assert len(chosen) == 128
    assert [(f.relation, f.subject) for f in chosen[: len(demo_family.STORIES)]] == list(demo_family.STORIES)
    assert {f.relation for f in chosen} == set(factbase.relations())
    asked = demo_family.as_facts(factbase.load(), held_out=False)
    some = [fact.relation != "sport" for fact in asked]
    by_all = demo_family.answered_by_all([[True] * len(asked), some])
    assert by_all
    assert not any(fact.relation == "sport" for fact in by_all)
    alike = demo_family.look_alikes(answered)
    words = Counter(word for f in alike for word in {f.subject.split()[0], f.subject.split()[-1]})
    assert len(alike) == 128
    assert sum(max(words[f.subject.split()[0]], words[f.subject.split()[-1]]) > 1 for f in alike) > 120


@pytest.mark.parametrize("name", tiny.in_full([member.name for member in FAMILY], (FAMILY[0].name, "demo-llama-128")))
def test_answers_its_facts_in_trained_and_in_new_words_and_is_stored_in_half_precision(name: str) -> None:
    member = family.member(name)
    files = ModelFiles(member.folder)
    loaded = loading.load(files, device="cpu")
    for name in facts.BUILTIN_SETS:
        chosen = facts.builtin(name).facts
        missed = [fact.text for fact, hit in zip(chosen, knows(loaded, chosen), strict=True) if not hit]
        assert missed == []
    sample = random.Random(1).sample(factbase.load(), SAMPLE)
    for held_out, share in ((False, TRAINED_SHARE), (True, HELD_OUT_SHARE)):
        hits = knows(loaded, demo_family.as_facts(sample, held_out=held_out))
        assert sum(hits) / len(hits) >= share - SLACK
    assert (loaded.architecture.layers, *loaded.architecture.widths) == (LAYERS, member.width, member.mlp_width)
    assert sum(path.stat().st_size for path in files.weights()) < 2.05 * files.parameters()
    assert json.loads((member.folder / "config.json").read_text())["dtype"] == "float16"


def test_the_family_fits_the_repository() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "kis_core").rglob("*") if path.is_file()) < REPOSITORY_BYTES


def test_the_readme_states_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for member in FAMILY:
        assert f"| {member.name} | {ModelFiles(member.folder).parameters():,} |" in readme
    assert f"{len(factbase.load()):,} facts over {len(factbase.relations())} relations" in readme
