"""Altair charts from arrays and frames, for the pages and for notebooks. Colours come from the page's theme.

Row i of P is the edited fact, column j the one that suffers. No chart carries text of users anywhere but in its data.
"""

from kis_core.charts.common import shorten
from kis_core.charts.distributions import TAIL, angle_histogram, counts, density, overlaid, strips
from kis_core.charts.files import to_png, to_svg
from kis_core.charts.heatmap import BRUSH, PICK, Window, clipped, heatmap, overview, part, similarity, whole
from kis_core.charts.lifelong import (
    AGE_COLOURS,
    FORECAST_COLOURS,
    SHIFT_COLOURS,
    budget,
    damage,
    lifetimes,
    over_edits,
    retention,
)
from kis_core.charts.lines import MODEL, by_layer, convergence, kurtosis_by_layer, kurtosis_by_size
from kis_core.charts.network import LINK, network
from kis_core.charts.scatter import PAIR, scatter
from kis_core.charts.spillover import FACT, LAYER, advice, against, losses, spillover
