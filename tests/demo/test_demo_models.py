"""The embedded models as they are shipped: small, complete, and knowing their facts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kis_core import facts
from kis_core.demo import factbase, family
from kis_core.demo.family import FAMILY, LAYERS
from kis_core.models import loading
from kis_core.models.files import ModelFiles
from kis_core.scoring.answers import knows
from kis_core.studies import demo_family
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY_BYTES = 35_000_000
SAMPLE = 60  # facts of which every template is asked; all of them are measured by `kis_core.studies.demo_family`
TRAINED_SHARE, HELD_OUT_SHARE = 0.99, 0.97
SLACK = 0.01  # of a share, for the sample: 240 and 120 questions


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
