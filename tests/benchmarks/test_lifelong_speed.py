"""How fast edits are made one after another and measured, on the default demo model. Prints; asserts no times."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import torch

from kis_core import lifelong, simulator
from kis_core.analysis import pipeline
from kis_core.editing import DenseEdit, applied
from kis_core.lifelong import summary
from kis_core.request import Request
from kis_core.scoring.log_odds import Sentence, read
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.benchmarks.test_speed import paired

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

EDITS, EVERY, FACTS = 100, 5, 128


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    store = Store(tmp_path_factory.mktemp("lifelong"))
    found = simulator.of(pipeline.run(Request(), store), store, device="cpu")
    found.sensitivity(0)
    return found


def test_a_hundred_edits(bench: Simulator) -> None:
    began = time.monotonic()
    film = lifelong.run(bench, lifelong.ask(bench, 0, "rome", EDITS, every=EVERY))
    whole = time.monotonic() - began
    began = time.monotonic()
    lifelong.run(bench, lifelong.ask(bench, 0, "rome", EDITS, lifelong.Draw(seed=1), every=EDITS))
    unmeasured = time.monotonic() - began
    half = summary.half_life(film)
    print(f"\n{EDITS} ROME edits, measured every {EVERY}: {whole:.1f} s (aim <= 60); the same number measured only "
    "at the "
          f"ends: {unmeasured:.1f} s; ratio {whole / unmeasured:.2f}; half forgotten after "
          f"{half.edits:.0f}")  # fmt: skip


def test_measuring_a_step_against_one_fact_at_a_time(bench: Simulator) -> None:
    width, mlp_width = bench.model.architecture.widths
    change = DenseEdit(0, torch.randn(width, mlp_width, generator=torch.Generator().manual_seed(0)).double().numpy())

    @torch.inference_mode()
    def asked(sentences: Sequence[Sequence[Sentence]]) -> None:
        with applied(bench.model, change):
            for batch in sentences:
                read(bench.model, batch)

    ours, single, ratio = paired(
        lambda: asked([bench.sentences]), lambda: asked([[one] for one in bench.sentences])
    )  # fmt: skip
    print(f"\n{FACTS} facts under many edits at once: {ours * 1e3:.0f} ms; one fact at a time {single * 1e3:.0f} ms; "
          f"ratio {1 / ratio:.0f}")  # fmt: skip
