"""An edit as its page looks at it: made once a run of the page, and handed to everything that draws a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from kis_core import charts
from kis_core.simulator import EditOutcome, EditRequest, Forecast, Simulator
from pages.parts.figures.figure import Pick
from pages.parts.frame import state
from pages.parts.frame.views import ResultView


@dataclass(frozen=True)
class Chosen:
    """What the reader has chosen.

    Attributes:
        request: the edit, or None while something is missing.
        e: the fact to edit.
        strength: of the edit.
        by: which forecast is looked at.
    """

    request: EditRequest | None
    e: int
    strength: float
    by: str

    def request_line(self) -> str:
        """Python that makes the request; needs `bench`."""
        request = self.request
        if request is None:
            return ""
        settings = "".join(f", {name}={getattr(request.how, name)!r}" for name, _ in state.get("how"))
        arguments = f"{request.fact}, {request.target!r}, {request.layer}, {request.method!r}{settings}"
        return f"request = bench.request({arguments})"


@dataclass(frozen=True, eq=False)
class EditView(ResultView):
    """The edit looked at, as far as it is known.

    Attributes:
        bench: model, facts and C.
        chosen: the edit.
        j: the other fact of the picked pair; the edited one itself where no other is picked.
        forecast: None until the model has been run, or where nothing is to be edited.
        outcome: None until the edit was performed.
    """

    bench: Simulator
    chosen: Chosen
    j: int
    forecast: Forecast | None = None
    outcome: EditOutcome | None = None

    @property
    def subject(self) -> str:
        """Of the edited fact."""
        return self.bench.facts[self.chosen.e].subject

    @property
    def pair(self) -> tuple[int, int]:
        """The edited fact and the other one."""
        return self.chosen.e, self.j

    def python_lines(self, *, perform: bool = True) -> str:
        """Python that gets the forecast of the edit and, if it is to be performed, its outcome."""
        lines = [
            "from kis_core import simulator",
            "",
            "bench = simulator.of(result, Store())",
            self.chosen.request_line(),
            "forecast = bench.forecast(request)",
        ]
        lines += [f"outcome = bench.perform(request, {self.chosen.strength:g})"] if perform else []
        return "\n".join(lines) + "\n"

    def frame_line(self, by: str, outcome: str) -> str:
        """Python that gets the frame of one of the `FORECASTS`, after `python_lines`."""
        arguments = f"bench, {self.chosen.e}, forecast, {by!r}, {self.chosen.strength:g}, {outcome}"
        return f"frame = simulator.spill_frame({arguments})"

    def pick_fact(self, look: str | None = None) -> Pick:
        """A click on a fact of a chart picks its pair with the edited fact, and may choose what stands below."""
        return Pick(charts.FACT, partial(_pick, self.chosen.e, look))


def _pick(e: int, look: str | None, clicked: dict[str, Any]) -> None:
    if look:
        state.choose("look", look)
    state.choose("pair", (e, int(clicked["fact"])))
