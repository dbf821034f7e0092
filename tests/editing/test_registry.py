"""The registry of methods: what it refuses, what it lists, and the settings that each method starts from."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import pytest

from kis_core.editing import METHODS, EditError, ModelScale, Settings, method, rank_one_method, register
from kis_core.editing.methods.alphaedit import AlphaEditSettings
from kis_core.editing.methods.emmet import EmmetSettings
from kis_core.editing.methods.fine_tuning import FineTuningSettings
from kis_core.editing.methods.memit import MemitSettings
from kis_core.editing.methods.pmet import PmetSettings
from kis_core.models import catalog


class TestRegistry:
    def test_a_name_that_is_taken_or_unknown_is_refused(self) -> None:
        with pytest.raises(EditError, match="two methods called 'rome'"):
            register(replace(method("memit"), name="rome"))
        assert method("rome").label == "ROME"
        with pytest.raises(EditError, match="no method 'mend'; there are rome, r-rome"):
            method("mend")
        with pytest.raises(EditError, match="no method 'memit' for a single edit; there are rome, r-rome"):
            rank_one_method("memit")

    def test_is_read_without_torch(self) -> None:
        code = "import sys; import kis_core.editing, kis_core.lifelong; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def some(name: str, value: Any) -> Settings:
    """Settings that are right but for one."""
    rights = (MemitSettings(1.0), EmmetSettings(0.1), PmetSettings(1.0), AlphaEditSettings(0.02, 10.0))
    for right in (*rights, FineTuningSettings(5e-4, 25)):
        if name in asdict(right):
            return replace(right, **{name: value})
    raise KeyError(name)


class TestSettings:
    @pytest.mark.parametrize(
        "name", ["memit_lambda", "emmet_lambda", "pmet_lambda", "null_below", "null_l2", "tuning_rate"]
    )
    def test_only_positive_numbers(self, name: str) -> None:
        missing = [] if name.startswith("null") else [None]  # those may be left to C
        for wrong in (0, -1.0, math.nan, math.inf, *missing):
            with pytest.raises(EditError, match=f"{name} has to be a positive number; found {wrong}"):
                some(name, wrong)
        assert asdict(some(name, 1e-300))[name] == 1e-300

    def test_whole_steps_in_bounds(self) -> None:
        for wrong in (0, 1001, 2.5, 25.0, None):
            with pytest.raises(EditError, match=f"whole number of steps from 1 to 1000; found {wrong}"):
                some("tuning_steps", wrong)
        assert [asdict(some("tuning_steps", steps))["tuning_steps"] for steps in (1, 1000)] == [1, 1000]

    @pytest.mark.parametrize("known", METHODS, ids=lambda known: known.name)
    def test_json_and_back(self, known: Any) -> None:
        settings = known.settings.suited(ModelScale("gpt2-xl", 48, 1600, 6400))
        assert known.settings(**json.loads(json.dumps(settings.to_json()))) == settings

    @pytest.mark.parametrize(
        ("model", "d", "expected"),
        [
            ("gpt-j-6b", 4096, (15_000, 1000, 6000, 0.02, 10, 5e-4, 25)),
            ("EleutherAI/gpt-j-6b", 4096, (15_000, 1000, 6000, 0.02, 10, 5e-4, 25)),
            ("llama-2-7b", 4096, (1100.8, 0.1, 15_000, 0.02, 10, 5e-4, 25)),
            # AlphaEdit's own L2; λ of its authors' MEMIT runs
            ("llama-3-8b", 4096, (15_000, 143.36, 1433.6, 0.02, 1, 5e-4, 25)),
            # where FT's rate and AlphaEdit's threshold were published
            ("gpt2-xl", 1600, (20_000, 100, 640, 0.02, 10, 5e-4, 25)),
            ("openai-community/gpt2-xl", 1600, (20_000, 100, 640, 0.02, 10, 5e-4, 25)),
            ("gpt2-medium", 1024, (409.6, 40.96, 409.6, 0.02, 10, 5e-4, 25)),
            ("demo-gpt2-128", 128, (51.2, 5.12, 51.2, None, None, 5e-4, 25)),
            ("/some/folder", 128, (51.2, 5.12, 51.2, None, None, 5e-4, 25)),
            ("openai-community/gpt3", 256, (102.4, 10.24, 102.4, None, None, 2.5e-4, 25)),
        ],
    )
    def test_what_methods_start_from(self, model: str, d: int, expected: tuple[float | None, ...]) -> None:
        entry = catalog.find(model)
        assert entry is None or entry.width == d
        scale = ModelScale(model, 12, d, entry.mlp_width if entry else 4 * d)
        names = ("memit", "emmet", "pmet", "alphaedit", "fine-tuning")
        settings = [method(name).settings.suited(scale) for name in names]
        assert [value for own in settings for value in asdict(own).values()] == pytest.approx(list(expected))
