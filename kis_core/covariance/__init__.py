"""The second moment C of keys over general text, for all layers in one pass, and its whitening.

C is the non-centred mean of k kᵀ over tokens (Meng et al., arXiv 2202.05262, section 3.1; Hu et al., arXiv
2408.07413, eq. 2). Every token of a document counts, special ones included; padding never.
"""

from kis_core.covariance.moment import SecondMoment, SecondMomentSum
from kis_core.covariance.passes import second_moments, tokenized_documents
from kis_core.covariance.whitener import Whitener

__all__ = [
    "SecondMoment", "SecondMomentSum", "Whitener", "second_moments", "tokenized_documents",
]  # fmt: skip
