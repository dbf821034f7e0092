"""The edit simulator: one fact changed, every other forecast and measured.

It knows the whole way of an edit, as `pipeline` does that of P: result, C -> value -> edit -> forecast, measurement.
"""

from kis_core.simulator.bench import MOST_STRENGTH, Simulator
from kis_core.simulator.files import of, write
from kis_core.simulator.frames import FORECASTS, advice_frame, foretold, share_frame, span, spill_frame
from kis_core.simulator.records import Advice, EditRequest, FlipForecast, Forecast, Outcome

__all__ = [
    "FORECASTS", "MOST_STRENGTH", "Advice", "EditRequest", "FlipForecast", "Forecast", "Outcome", "Simulator",
    "advice_frame", "foretold", "of",
    "share_frame", "span", "spill_frame", "write",
]  # fmt: skip
