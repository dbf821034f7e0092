"""An edit that was kept, forecast and measured: shown without its model, C or gradients, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from kis_core.models.files import ModelError
from kis_core.simulator import Simulator
from tests.simulator.simulator_tools import Setting, asked, assert_same, delete, no_model

pytestmark = pytest.mark.usefixtures("weights_stay")


def test_a_kept_edit_is_shown_without_its_model(simulator: Simulator, small: Setting) -> None:
    request = asked(simulator)
    forecast, outcome = simulator.forecast(request), simulator.perform(request)
    quality, warnings = simulator.quality(forecast, outcome), simulator.warnings(forecast, outcome)
    assert forecast.flips
    key = simulator.keep(request)
    value = simulator.value(request)
    for kind in ("sensitivity", "second-moment"):
        assert delete(simulator.store, kind)

    again = small.simulator(simulator.store, no_model)
    assert again.keep(request) == key
    assert again.has_forecast(request)
    assert again.performed(request, 1.0)
    assert_same(again.forecast(request), forecast)
    kept = again.perform(request)
    assert_same(replace(kept, scores=None), outcome)
    pd.testing.assert_frame_equal(again.quality(again.forecast(request), kept), quality)
    assert again.warnings(forecast, kept) == warnings
    assert_same(again.value(request), value)

    assert not again.performed(request, 0.5)
    assert not again.has_forecast(asked(again, target="Intel")), "another edit"
    with pytest.raises(ModelError):
        again.perform(request, 0.5)


def test_an_edit_that_was_not_kept_leaves_nothing_but_what_it_is_made_of(simulator: Simulator) -> None:
    request = asked(simulator)
    simulator.forecast(request)
    simulator.perform(request)
    assert not simulator.store.listed("performed-edit")
