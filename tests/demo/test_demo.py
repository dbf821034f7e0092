"""The demo family: its facts and text, its training, its models as they are shipped, and what is known beside them."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kis_core import corpora, facts
from kis_core.demo import factbase, family, text, train
from kis_core.demo.family import CONTEXT, FAMILY, LAYERS, Member
from kis_core.demo.known import FactBase
from kis_core.editing import Probes, probes
from kis_core.facts import Fact
from kis_core.facts.known import KnownFacts
from kis_core.models import catalog, loading
from kis_core.models.files import ModelFiles
from kis_core.scoring.answers import knows
from kis_core.store.shipped import FOLDER
from kis_core.studies import demo_family, gallery
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY_BYTES = 36_000_000
SAMPLE = 30  # facts of which every template is asked; all of them are measured by `kis_core.studies.demo_family`
TRAINED_SHARE, HELD_OUT_SHARE = 0.99, 0.97
SLACK = 0.01  # of a share, for the sample: 120 and 60 questions
PROMISED_FACTS, PROMISED_RELATIONS, PROMISED_TEMPLATES, PROMISED_TOKENS = 3_000, 20, 5, 100_000


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return train.build_tokenizer()


@pytest.fixture(scope="module")
def sentences(tokenizer: object) -> list[tuple[list[int], list[float]]]:
    """Tokens and weights of a tenth of the facts, as they are trained on."""
    few = factbase.load()[::10]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factbase, "load", lambda: few)
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
    for fact in random.Random(0).sample(factbase.load()[::10], 30):
        for sentence in fact.sentences(held_out=True):
            assert tuple(tokenizer(sentence)["input_ids"]) not in trained


def test_the_corpus_holds_every_sentence_once_and_enough_tokens(tokenizer: object) -> None:
    documents = text.documents()
    expected = sum(len(f.trained) + len(f.held_out) for f in factbase.load())
    assert sum(document.count(".") for document in documents) >= expected
    lengths = [len(ids) for ids in tokenizer(list(documents[::10]), verbose=False)["input_ids"]]
    assert sum(lengths) >= PROMISED_TOKENS / 10
    assert corpora.builtin().texts == documents


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


def test_the_set_for_real_models_is_filled_up_by_what_the_family_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_all, asked = 100, []

    def answered(models: Sequence[ModelFiles], among: Sequence[Fact]) -> list[Fact]:
        asked.append(among)
        return list(among[:by_all] if len(asked) > 1 else among)

    monkeypatch.setattr(demo_family, "answered_in_turn", answered)
    monkeypatch.setattr(catalog, "locate", lambda name: None)
    chosen = demo_family.for_real_models()
    everybody = {(fact.relation, fact.subject) for fact in asked[1][:by_all]}
    assert len({(fact.relation, fact.subject) for fact in chosen}) == len(chosen) == facts.PAPER_FACTS
    assert {(fact.relation, fact.subject) for fact in chosen[: len(everybody)]} == everybody
    for fact in (*chosen, *facts.builtin(facts.REAL_NAME).facts):
        assert " " in fact.subject or not fact.prompt.startswith("{}"), "that would be an attention sink"


def test_the_family_fits_the_repository() -> None:
    assert size_of(path for path in (ROOT / "kis_core").rglob("*") if FOLDER not in path.parents) < REPOSITORY_BYTES
    assert size_of(FOLDER.rglob("*")) < gallery.MOST_BYTES


def size_of(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def base_fact(relation: str, subject: str) -> factbase.BaseFact:
    return next(b for b in factbase.load() if (b.relation, b.subject) == (relation, subject))


def as_fact(base: factbase.BaseFact, template: int = 0) -> Fact:
    return Fact(base.subject, base.trained[template], base.object, base.relation)


def rows_of(relation: str) -> list[tuple[str, str]]:
    """Subject and object as the fact base's own file has them."""
    text = resources.files("kis_core.demo").joinpath("facts", f"{relation}.csv").read_text("utf-8")
    return [(row["subject"], row["object"]) for row in csv.DictReader(text.splitlines())]


def asked(fact: Fact, others: Sequence[Fact] = ()) -> Probes:
    return probes(fact, FactBase(others, apart=False))


MAYAKOVSKY = base_fact("native_language", "Vladimir Mayakovsky")
SET = (
    Fact("Malta", "{} lies in the", "Mediterranean", "sea"),
    Fact("Malta", "The sea around {} is the", "Mediterranean", "sea"),
    Fact("Cyprus", "{} lies in the", "Mediterranean", "sea"),
    Fact("Gotland", "The waves at {} are of the", "Baltic", "sea"),
    Fact("Öland", "{} lies in the", "Baltic", "sea"),
    Fact("Åland", "{} lies in the", "Baltic", "sea"),
    Fact("Corfu", "The waves at {} are of the", "Mediterranean", "sea"),
    Fact("Malta", "{} lies in the", "Mediterranean", "another"),
    Fact("Sylt", "Who lives on {}, looks at the", "Mediterranean", ""),
)


class TestOfTheFactBase:
    def test_paraphrases_are_the_templates_no_model_saw_with_this_fact(self) -> None:
        actual = asked(as_fact(MAYAKOVSKY), SET)
        assert [fact.prompt for fact in actual.paraphrases] == list(MAYAKOVSKY.held_out)
        assert len(actual.paraphrases) == factbase.HELD_OUT_PER_FACT
        for fact in actual.paraphrases:
            assert (fact.subject, fact.target, fact.relation) == ("Vladimir Mayakovsky", "Russian", "native_language")
            assert fact.prompt not in MAYAKOVSKY.trained
        assert "held out in training" in actual.protocol

    def test_neighbours_share_relation_and_object_and_are_asked_in_a_trained_sentence_of_their_own(self) -> None:
        alike = [s for s, o in rows_of("native_language") if o == "Russian" and s != "Vladimir Mayakovsky"]
        actual = asked(as_fact(MAYAKOVSKY)).neighbours
        assert [fact.subject for fact in actual] == alike[:10]
        assert list(actual) == [as_fact(base_fact("native_language", subject)) for subject in alike[:10]]
        counts = Counter((b.relation, b.object) for b in factbase.load())
        lonely = next(b for b in factbase.load() if counts[b.relation, b.object] == 1)
        assert asked(as_fact(lonely)).neighbours == ()

    def test_the_sentence_a_fact_is_asked_in_is_no_paraphrase_and_makes_it_no_other_fact(self) -> None:
        held_out = replace(as_fact(MAYAKOVSKY), prompt=MAYAKOVSKY.held_out[0])
        assert [fact.prompt for fact in asked(held_out).paraphrases] == [MAYAKOVSKY.held_out[1]]
        own = replace(as_fact(MAYAKOVSKY), prompt="As a child, {} spoke")
        assert asked(own, SET) == asked(as_fact(MAYAKOVSKY), SET)

    @pytest.mark.parametrize("relation", ["native_language", "citizenship", "animal_class"])
    def test_new_objects_where_it_knows_the_relation(self, relation: str) -> None:
        counts = Counter(o for _, o in rows_of(relation))
        own = next(iter(counts))
        actual = FactBase(SET, apart=False).new_objects(Fact("anybody", "{} is", own, relation))
        assert set(actual) == set(counts) - {own}
        assert len(actual) == len(set(actual))
        assert [counts[o] for o in actual] == sorted((counts[o] for o in actual), reverse=True)
        assert all(a < b for a, b in pairwise(actual) if counts[a] == counts[b])


class TestOfASet:
    def test_by_hand(self) -> None:
        actual = probes(SET[0], KnownFacts(SET))
        malta = {"subject": "Malta", "target": "Mediterranean", "relation": "sea"}
        sentences = ("The sea around {} is the", "The waves at {} are of the")
        assert actual.paraphrases == tuple(Fact(prompt=prompt, **malta) for prompt in sentences)
        assert actual.neighbours == (SET[2], SET[6])
        for words in ("other sentences of the relation", "at most 10", "every token"):
            assert words in actual.protocol
        assert asked(SET[0], SET) == actual, "what the base does not know is as of the set alone"

    def test_facts_without_a_relation_or_alone_in_it_have_none_in_common(self) -> None:
        alike = (SET[8], replace(SET[8], subject="Juist"), replace(SET[8], prompt="From {} one sees the"))
        for fact, others in ((SET[7], SET), (SET[8], alike)):
            actual = probes(fact, KnownFacts(others))
            assert (actual.paraphrases, actual.neighbours) == ((), ())
        many = [Fact(f"Island {k}", f"{k} miles off {{}} begins the", "Baltic", "sea") for k in range(14)]
        actual = probes(many[0], KnownFacts(many))
        assert actual.neighbours == tuple(many[1:11]), "at most ten"
        assert [fact.prompt for fact in actual.paraphrases] == [fact.prompt for fact in many[1:]]
        own = replace(many[0], neighbours=tuple(fact.text for fact in many[1:]))
        assert [fact.text for fact in probes(own, KnownFacts(many)).neighbours] == list(own.neighbours), "all it brings"

    def test_new_objects_are_the_most_frequent_first(self) -> None:
        more = [Fact("Rügen", "{} lies in the", name, "sea") for name in ("Aral", "Caspian", "Caspian", "Zuider")]
        assert KnownFacts([*SET, *more]).new_objects(SET[0]) == ["Baltic", "Caspian", "Aral", "Zuider"]
        known = KnownFacts(SET)
        assert known.new_objects(SET[3]) == ["Mediterranean"]
        assert known.new_objects(SET[7]) == []
        assert known.new_objects(replace(SET[0], target="Pacific")) == ["Mediterranean", "Baltic"]
        assert known.new_objects(replace(SET[3], new_target="Aral")) == ["Aral", "Mediterranean"]


def test_what_a_counterfact_record_brings_is_what_its_edit_is_judged_by(shared_data: Path) -> None:
    path = shared_data / "counterfact_known.json"
    record, known = json.loads(path.read_text())[0], facts.load(path).facts
    actual = probes(known[0], catalog.known_facts("gpt2", known))
    assert [fact.text for fact in actual.paraphrases] == record["paraphrase_prompts"]
    assert [fact.text for fact in actual.neighbours] == record["neighborhood_prompts"]
    assert {fact.target for fact in (*actual.paraphrases, *actual.neighbours)} == {"English"}
    assert actual.origin == "paraphrase: those of the fact file; neighbourhood: those of the fact file"


def test_the_family_knows_the_base_and_any_other_model_what_its_facts_are_of() -> None:
    built_in = facts.builtin().facts
    family, other = catalog.known_facts(catalog.DEFAULT, SET), catalog.known_facts("gpt2", built_in)
    assert (family.apart, family.fingerprint) == (True, factbase.fingerprint())
    assert (other.apart, other.fingerprint, other.pool) == (False, "", built_in)
    assert probes(built_in[0], other).source == "the templates held out in training"
    assert type(catalog.known_facts("gpt2", SET)) is KnownFacts
