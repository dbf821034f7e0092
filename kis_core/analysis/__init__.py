"""From a request to a result: resolve it, take the second moments, compute P. The front door of the library."""

from kis_core.analysis.pipeline import run
from kis_core.request import Request

__all__ = ["Request", "run"]
