"""The embedded models as they are shipped: small, complete, and knowing their facts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kis_core import facts
from kis_core.demo import factbase
from kis_core.demo.family import FAMILY, LAYERS, Member
from kis_core.models import loading
from kis_core.models.files import ModelFiles
from kis_core.scoring.answers import knows
from kis_core.studies import demo_family

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY_BYTES = 35_000_000
SAMPLE = 60  # facts of which every template is asked; all of them are measured by `kis_core.studies.demo_family`
TRAINED_SHARE, HELD_OUT_SHARE = 0.99, 0.97
SLACK = 0.01  # of a share, for the sample: 240 and 120 questions

every_member = pytest.mark.parametrize("member", FAMILY, ids=lambda member: member.name)


@every_member
def test_answers_every_built_in_fact(member: Member) -> None:
    loaded = loading.load(ModelFiles(member.folder), device="cpu")
    for name in facts.BUILTIN_SETS:
        chosen = facts.builtin(name).facts
        missed = [fact.text for fact, hit in zip(chosen, knows(loaded, chosen), strict=True) if not hit]
        assert missed == []


@every_member
def test_recalls_its_facts_in_trained_and_in_new_words(member: Member) -> None:
    loaded = loading.load(ModelFiles(member.folder), device="cpu")
    sample = random.Random(1).sample(factbase.load(), SAMPLE)
    for held_out, share in ((False, TRAINED_SHARE), (True, HELD_OUT_SHARE)):
        hits = knows(loaded, demo_family.as_facts(sample, held_out=held_out))
        assert sum(hits) / len(hits) >= share - SLACK


@every_member
def test_is_stored_in_half_precision_with_its_own_shape(member: Member) -> None:
    loaded = loading.load(ModelFiles(member.folder), device="cpu")
    assert loaded.architecture.layers == LAYERS
    assert loaded.architecture.widths == (member.width, member.mlp_width)
    size = sum(path.stat().st_size for path in ModelFiles(member.folder).weights())
    assert size < 2.05 * ModelFiles(member.folder).parameters()
    assert json.loads((member.folder / "config.json").read_text())["dtype"] == "float16"


def test_the_family_fits_the_repository() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "kis_core").rglob("*") if path.is_file()) < REPOSITORY_BYTES


def test_the_readme_states_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for member in FAMILY:
        assert f"| {member.name} | {ModelFiles(member.folder).parameters():,} |" in readme
    assert f"{len(factbase.load()):,} facts over {len(factbase.relations())} relations" in readme
