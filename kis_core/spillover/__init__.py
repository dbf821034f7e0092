"""What an edit of one fact does to all others: forecast (`forecast`, `rivals`), measured, and how well both agree."""

from kis_core.spillover import forecast, rivals
from kis_core.spillover.measurement import Measurement, Observation, measure, observe
from kis_core.spillover.quality import FEW_FLIPS, auc, correlations, quality
from kis_core.spillover.sensitivity import Sensitivity, sensitivity

__all__ = [
    "FEW_FLIPS", "Measurement", "Observation", "Sensitivity", "auc", "correlations", "forecast", "measure",
    "observe", "quality", "rivals", "sensitivity",
]  # fmt: skip
