"""A run of edits says in the Library what it is."""

from __future__ import annotations

from pathlib import Path

from kis_core import lifelong
from kis_core.library import inventory
from tests.lifelong import lifelong_tools as tools


def test_a_run_on_the_shelf_tells_its_name_model_facts_and_text(tmp_path: Path) -> None:
    bench = tools.analysed(tmp_path).bench(tmp_path / "store")
    request = tools.asked(bench, "rome", 3, every=1)

    def until(trace: lifelong.EditTrace) -> bool:
        return trace.edits == 1

    for edits, told in ((1, "1 edit"), (3, "3 edits")):
        lifelong.run(bench, request, until=until if edits == 1 else None)
        (run,) = (row for row in inventory.shelf(bench.store) if row.what == inventory.RUN)
        assert run.name == f"{told}, ROME, layer 0, at random, seed 0"
        source = bench.result.provenance
        assert (run.model, run.facts, run.corpus) == (tools.MODEL, source["facts"], source["corpus"])
