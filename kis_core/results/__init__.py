"""A finished analysis: P, cosines and reports by layer; what is stored, exported and read off it."""

from kis_core.results.result import LayerReport, Result
