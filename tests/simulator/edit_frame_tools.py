"""A small analysed model and forecasts of an edit, for tests of what is drawn of them."""

from __future__ import annotations

import numpy as np

from kis_core.simulator import FlipForecast

ROUNDING = 1e-9  # relative, of a few float64 operations
NAN = float("nan")
P = np.array([[[1.0, 0.2, 0.3, 0.4], [0.05, 1.0, -0.9, NAN], [0.1, 0.2, 1.0, 0.3], [0.4, 0.5, 0.6, 1.0]]])
FLIPS = FlipForecast((0, 3, 3, 1), (0.5, 1.0, 1.25, 0.1), ("one", "two", "three", "new"))
