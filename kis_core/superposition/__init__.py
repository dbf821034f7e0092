"""Numbers that describe the off-diagonal entries of P (Hu et al., arXiv 2408.07413, Fig. 4 to 6, App. C and E).

Everything here takes a P of shape (m, m), leaves its diagonal out, and leaves out what is not finite (a zero key). The
entries of P are not independent: row i and column i share fact i. Intervals are therefore drawn *over facts*.
"""

from kis_core.superposition.agreement import correlation, layer_similarity, rank_correlation
from kis_core.superposition.angles import (
    angle_shares,
    angle_spreads,
    angle_strips,
    angles,
    histogram,
    smallest_angles,
)
from kis_core.superposition.densities import (
    CELLS_A_BANDWIDTH,
    ISOTROPIC,
    KDE_REACH,
    MEASURED,
    SAME_STD,
    TAILS,
    Density,
    density_curves,
    density_floor,
    description,
    isotropic_std,
    kde,
    layer_densities,
    normal_density,
    tails,
    upper_tail,
)
from kis_core.superposition.moments import (
    CONSTANT_SPREAD,
    DRAWS,
    LEVEL,
    Interval,
    Moments,
    finite_entries,
    kurtosis_interval,
    moments,
    off_diagonal,
    without,
)
from kis_core.superposition.subsampling import SIZES, bands, convergence, convergence_sizes

__all__ = [
    "CELLS_A_BANDWIDTH",
    "CONSTANT_SPREAD",
    "DRAWS",
    "ISOTROPIC",
    "KDE_REACH",
    "LEVEL",
    "MEASURED",
    "SAME_STD",
    "SIZES",
    "TAILS",
    "Density",
    "Interval",
    "Moments",
    "angle_shares",
    "angle_spreads",
    "angle_strips",
    "angles",
    "bands",
    "convergence",
    "convergence_sizes",
    "correlation",
    "density_curves",
    "density_floor",
    "description",
    "finite_entries",
    "histogram",
    "isotropic_std",
    "kde",
    "kurtosis_interval",
    "layer_densities",
    "layer_similarity",
    "moments",
    "normal_density",
    "off_diagonal",
    "rank_correlation",
    "smallest_angles",
    "tails",
    "upper_tail",
    "without",
]
