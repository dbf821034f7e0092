"""P, and numbers that describe its off-diagonal entries (Hu et al., arXiv 2408.07413, Fig. 4 to 6, App. C and E).

All statistics take a P of shape (m, m), and leave out its diagonal and what is not finite (from a zero key). The
entries of P are not independent: row i and column i share fact i. Intervals are therefore drawn *over facts*.
"""

from kis_core.superposition.agreement import correlation, count_pairs, differing, layer_similarity, rank_correlation
from kis_core.superposition.angles import (
    angle_shares,
    angle_spreads,
    angle_strips,
    angles,
    histogram,
    smallest_angles,
)
from kis_core.superposition.densities import (
    ISOTROPIC,
    MEASURED,
    SAME_STD,
    TAILS,
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
    DRAWS,
    LEVEL,
    Interval,
    MomentDraws,
    Moments,
    finite_entries,
    interval_of,
    kurtosis_interval,
    moment_draws,
    moments,
    off_diagonal,
    without,
)
from kis_core.superposition.overview import DETAIL, beyond, block_side, blocks, colour_limit, strongest_in_block
from kis_core.superposition.subsampling import bands, convergence, convergence_sizes
