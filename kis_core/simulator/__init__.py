"""The edit simulator: one fact changed, every other forecast and measured.

It knows the whole way of an edit, as `pipeline` does that of P: result, C -> value -> edit -> forecast, measurement.
"""

from kis_core.simulator.edit_records import Advice, EditOutcome, EditRequest, FlipForecast, Forecast
from kis_core.simulator.files import of, write
from kis_core.simulator.frames import FORECASTS, advice_frame, forecast_values, share_frame, span, spill_frame
from kis_core.simulator.kept import Event, event, events, first_edited, kept_edits, without_model
from kis_core.simulator.one_edit import MOST_STRENGTH, Simulator

__all__ = [
    "FORECASTS",
    "MOST_STRENGTH",
    "Advice",
    "EditOutcome",
    "EditRequest",
    "Event",
    "FlipForecast",
    "Forecast",
    "Simulator",
    "advice_frame",
    "event",
    "events",
    "first_edited",
    "forecast_values",
    "kept_edits",
    "of",
    "share_frame",
    "span",
    "spill_frame",
    "without_model",
    "write",
]
