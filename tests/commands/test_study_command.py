"""The tables of a study by hand, and how `python -m kis_core study` asks for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kis_core.__main__ import main
from kis_core.editing.scores import SCORES
from kis_core.models import catalog
from kis_core.request import Request
from kis_core.studies.edits import EditStudy, markdown
from tests.studies.study_tools import tables as tables_of

FLIPS = ("flips", "flips_both", "shift_error")


def test_tables_by_hand() -> None:
    performed = pd.DataFrame(
        [("a", 0, True, True, 0.5, 1.0, 4, 2, 2e-7), ("a", 0, True, False, None, 0.5, 8, 1, 5e-7)],
        columns=[*("model", "layer", "reaches", "efficacy", "paraphrase", "neighbourhood"), *FLIPS],
    )
    own = {name: [0.5, 0.75] for name in SCORES} | {"PS": [0.25, np.nan], "NM": [-0.5, -0.25]}
    before = {f"{name}_before": [0.25, 0.25] for name in SCORES}
    performed = performed.assign(**own, **before, prompts=["theirs", "made up"], fact=[1, 2], target="x")
    ranks = {"spearman": [0.25, np.nan], "spearman_size": [np.nan, np.nan], "pearson": [0.5, -0.25]}
    quality = pd.DataFrame({"model": "a", "layer": 0, "forecast": ["|P|", "|P|"]} | ranks)
    flips = pd.DataFrame({"model": "a", "layer": 0, "forecast": ["|P|"], "auc": [0.875], "flips": [12]})
    tables = tables_of(markdown(performed, quality, flips))
    success, unedited, spearman, size, pearson, pooled = (rows[0] for rows in tables.values())
    _, [_, edited], *_ = tables.values()
    assert (unedited["layer"], unedited["ES"], unedited["S"]) == ("before", "25%", "25%")
    assert (edited["layer"], edited["edits"], edited["ES"], edited["NM"]) == ("0", "2", "62%", "-38%")
    assert edited["PS"] == "25% (1)", "of the one edit that has paraphrases"
    assert edited["S"] == f"{3 / (1 / 0.25 + 2 / 0.625):.0%}"
    assert list(success.items())[:3] == [("model", "a"), ("layer", "0"), ("edits", "2")]
    assert (success["efficacy"], success["paraphrase"], success["neighbourhood"]) == ("50%", "50%", "75%")
    assert (success["flips"], success["of them forecast"], success["shift error"]) == ("12", "25%", "5e-07")
    assert (spearman["|P|"], size["|P|"], pearson["|P|"]) == ("0.25", "–", "0.12")
    assert pooled == {"model": "a", "layer": "0", "flips": "12", "|P|": "0.88"}


def test_options_of_the_command_reach_the_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[EditStudy] = []

    def remember(study: EditStudy, *_: object, **__: object) -> list[Path]:
        given.append(study)
        return []

    monkeypatch.setattr(EditStudy, "run", remember)
    out = f"--out={tmp_path}"
    text = ["--corpus=wiki.txt", "--tokens=9"]
    search = ["--no-everywhere", "--clamp=0.5", "--prefixes=2x3,1x4"]
    study = ["study", "--models=a,b", "--edits=7", "--seed=4", "--method=r-rome", "--layers=0,2"]
    assert main([*study, *text, *search, out]) == 0
    assert main(["study", "--mean-key", "--everywhere", "--prefixes=0", out]) == 0
    chosen = {"everywhere": False, "clamp": 0.5, "prefixes": ((2, 3), (1, 4))}
    both = tuple(Request(name, corpus="wiki.txt", tokens=9) for name in "ab")
    demo = tuple(Request(entry.name) for entry in catalog.demo())
    assert given == [
        EditStudy(both, 7, "r-rome", 4, chosen, (0, 2)),
        EditStudy(demo, 50, "rome", 0, {"mean_key": True, "everywhere": True, "prefixes": ()}),
    ]
