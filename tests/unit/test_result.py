"""A layer's report survives the way through JSON, with the numbers JSON does not know."""

from __future__ import annotations

import json
import math

from kis_core.result import LayerReport
from kis_core.statistics import Moments


def test_a_report_comes_back_from_json_as_it_was() -> None:
    report = LayerReport(3, 40, 1234.5, 1e-7, Moments(-0.1, 0.2, -0.3, 1 / 3, 2.0, 6, 1))
    assert LayerReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


def test_infinity_and_nan_come_back_too() -> None:
    report = LayerReport(0, 2, math.inf, 0.0, Moments(1.0, 0.0, math.nan, math.nan, -math.inf, 2, 0))
    text = json.dumps(report.to_json(), allow_nan=False)
    again = LayerReport.from_json(json.loads(text))
    assert again.condition_number == math.inf
    assert math.isnan(again.moments.skewness)
    assert math.isnan(again.moments.kurtosis)
    assert again.moments.max == -math.inf
    assert again.moments.mean == 1.0
