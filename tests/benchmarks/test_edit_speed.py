"""How fast edits are found, forecast, measured and made one after another on the default demo model. Prints only."""

from __future__ import annotations

import pytest
import torch

from kis_core import lifelong, simulator
from kis_core.analysis import pipeline
from kis_core.editing import Edit, applied
from kis_core.lifelong import summary
from kis_core.request import Request
from kis_core.scoring.log_odds import read
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.benchmarks.test_speed import paired, seconds

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

FACT, TARGET, LAYER, FACTS, ROUNDS = 1, "French", 0, 128, 5
EDITS, EVERY = 100, 5


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    store = Store(tmp_path_factory.mktemp("edits"))
    actual = simulator.of(pipeline.run(Request(), store), store, device="cpu")
    actual.prepare(actual.request(FACT, TARGET, LAYER))
    return actual


def fresh(bench: Simulator) -> Simulator:
    """A simulator that has model, C and gradients, and knows nothing of any edit but what is stored."""
    other = Simulator(bench.result, bench.store, lambda: bench.model)
    _ = other.whitener(LAYER), other.sensitivity(LAYER), other.sentences, other.model
    return other


@torch.inference_mode()
def one_by_one(bench: Simulator, edit: Edit) -> None:
    """Log-odds under an edit, one sentence a pass."""
    for sentence in bench.sentences:
        with applied(bench.model, edit):
            read(bench.model, [sentence])


def test_search_for_a_value(bench: Simulator) -> None:
    times = []
    for seed in range(1, ROUNDS + 1):
        other = fresh(bench)
        request = other.request(FACT, TARGET, LAYER, seed=seed)
        times.append(seconds(lambda other=other, request=request: other.value(request)))
    print(f"\nsearch for a value: {min(times):.2f} to {max(times):.2f} s (aim <= 2)")


def test_forecast_for_all_facts_against_running_them_one_at_a_time(bench: Simulator) -> None:
    request = bench.request(FACT, TARGET, LAYER)
    edit = bench.edit(request)

    def forecast() -> None:
        other = fresh(bench)
        other.value(request)
        times.append(seconds(lambda: other.forecast(request, flips=False)))
        flips.append(seconds(lambda: other.forecast(request)))

    times: list[float] = []
    flips: list[float] = []
    for _ in range(ROUNDS):
        forecast()
    single = min(seconds(lambda: one_by_one(bench, edit)) for _ in range(ROUNDS))
    ours = min(times)
    print(f"\nforecast for {FACTS} facts, value known: {ours * 1e3:.1f} ms (aim <= 50); running them one at a time "
          f"{single * 1e3:.0f} ms; ratio {single / ours:.0f} (aim >= 20); with the answers that flip, for which the "
          f"model runs once: {min(flips) * 1e3:.0f} ms")  # fmt: skip


def test_performing_an_edit(bench: Simulator) -> None:
    request = bench.request(FACT, TARGET, LAYER)
    edit = bench.edit(request)

    @torch.inference_mode()
    def batched() -> None:
        with applied(bench.model, edit):
            read(bench.model, bench.sentences)

    whole = min(seconds(lambda: fresh(bench).perform(request, 1.0)) for _ in range(ROUNDS))
    ours, single, ratio = paired(batched, lambda: one_by_one(bench, edit))
    print(f"\nperform an edit and measure {FACTS} facts, answers, success and the propagated forecast included: "
          f"{whole:.2f} s (aim <= 0.5); their log-odds in one pass {ours * 1e3:.0f} ms, one at a time "
          f"{single * 1e3:.0f} ms; ratio {1 / ratio:.0f}")  # fmt: skip


def test_a_hundred_edits(bench: Simulator) -> None:
    often, seldom = (lifelong.ask(bench, LAYER, "rome", EDITS, lifelong.Draw(seed=seed), every=every)
                     for seed, every in ((0, EVERY), (1, EDITS)))  # fmt: skip
    whole, unmeasured = (seconds(lambda request=request: lifelong.run(bench, request)) for request in (often, seldom))
    half = summary.half_life(lifelong.run(bench, often)).edits
    print(f"\n{EDITS} ROME edits, measured every {EVERY}: {whole:.1f} s (aim <= 60); measured only at the ends: "
          f"{unmeasured:.1f} s; ratio {whole / unmeasured:.2f}; half forgotten after {half:.0f}")  # fmt: skip
