"""The second moment C of keys over general text, for all layers in one pass, and its whitening.

C is the non-centred mean of k kᵀ over tokens (Meng et al., arXiv 2202.05262, section 3.1; Hu et al., arXiv
2408.07413, eq. 2). Every token of a document counts, special ones included; padding never.
"""

from kis_core.covariance.moment import SecondMoment, SecondMomentSum
from kis_core.covariance.passes import Outcome, OutOfMemory, Pass, second_moments, tokens_per_batch
from kis_core.covariance.ranks import ALONE, Share
from kis_core.covariance.reading import Extent
from kis_core.covariance.whitener import Whitener

__all__ = [
    "ALONE", "Extent", "OutOfMemory", "Outcome", "Pass", "SecondMoment", "SecondMomentSum", "Share", "Whitener",
    "second_moments", "tokens_per_batch",
]  # fmt: skip
