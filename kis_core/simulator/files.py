"""From a stored result to a simulator, and from an edit to files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from kis_core.analysis import pipeline
from kis_core.files import atomic
from kis_core.models.holder import LoadedModels
from kis_core.results import caveats, export
from kis_core.results.pairs import edited_key
from kis_core.results.result import Result
from kis_core.simulator.edit_records import EditRequest
from kis_core.simulator.one_edit import Simulator
from kis_core.store.store import Store


def of(result: Result, store: Store, *, device: str = "auto", models: LoadedModels | None = None) -> Simulator:
    """The simulator for a result, on the model it came from: lent by `models`, or held as long as the simulator is."""
    holder = models or LoadedModels()
    return Simulator(result, store, lambda: pipeline.model_of(result, store, device=device, models=holder))


def write(simulator: Simulator, request: EditRequest, strength: float, folder: Path) -> list[Path]:
    """Make the edit, measure, take it back, and write `spillover.csv` and `edit.json` into a folder.

    Returns:
        the files written.
    """
    before = simulator.model.digest()
    forecast = simulator.forecast(request)
    outcome = simulator.perform(request, strength)
    value = simulator.value(request)
    landing, key = forecast.landing, edited_key(simulator.result, request.layer, request.fact)
    about = {
        "request": request.to_json() | {"strength": strength},
        "edited": simulator.facts[request.fact].to_json() | {"new_target": request.target},
        "hyperparameters_from": simulator.recipe.source,
        "delta_norm": forecast.edit.size * strength,
        "old_value_norm": float((value.output**2).sum() ** 0.5),
        "warnings": caveats.of_edit(simulator.result, request.layer, request.fact)
        + simulator.warnings(forecast, outcome),
        "own_key_instead_of_mean_key": forecast.own_key,
        "largest_share": asdict(landing) | {"subject": simulator.facts[landing.fact].subject} if landing else None,
        "edited_key": asdict(key) | {"largest": None if key.largest is None else simulator.facts[key.largest].subject},
        "losses": list(value.losses),
        "probability_in_search": value.probability,
        "success": asdict(outcome.success),
        "protocol": simulator.probes(request.fact).protocol,
        "quality": simulator.quality(forecast, outcome).to_dict("records"),
        "flips_forecast": {str(j): word for j, word in sorted(forecast.flips.by(strength).items())}
        if forecast.flips
        else None,
        "flips_measured": [int(j) for j in outcome.flipped.nonzero()[0]],
        "weights_sha256_before": before,
        "weights_sha256_after": simulator.model.digest(),
        "provenance": simulator.result.provenance,
    }
    contents = {
        "spillover.csv": export.frame_csv(simulator.table(forecast, outcome)),
        "edit.json": json.dumps(export.plain(about), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    return atomic.write(folder, contents)
