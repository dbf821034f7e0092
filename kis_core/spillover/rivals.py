"""Other forecasts of which facts an edit damages; none of them looks at what the edit writes."""

from __future__ import annotations

import numpy as np

from kis_core.editing.edit import Edit
from kis_core.results.result import Result
from kis_core.spillover.forecast import largest_share
from kis_core.spillover.sensitivity import Sensitivity


def rivals(result: Result, facts: Sensitivity, edit: Edit, e: int) -> dict[str, np.ndarray]:
    """Scores of every fact for an edit of fact e, (m,) each; larger means more forecast damage.

    |P| as the paper has it; Q = k_eᵀk_j / ‖k_e‖², P for C = I; the plain cosine of keys; GradSim (arXiv 2407.12828):
    the cosine of the gradients of both log-odds with respect to the edited matrix; CLaRE (arXiv 2603.19297): that of
    the hidden states after the layer, here at the prompts' last tokens; same last token; same relation.
    """
    keys = facts.subject_keys.astype(np.float64)
    relations = np.array([fact.relation for fact in result.facts.facts])
    return {
        "|P|": np.abs(result.p[result.at(facts.layer), e]),
        "largest share of any token": largest_share(edit, facts),
        "|Q| (C = I)": np.abs(keys @ keys[e]) / _positive(keys[e] @ keys[e]),
        "cosine of keys": np.abs(_cosines(keys, e)),
        "GradSim": np.abs(gradient_cosines(facts, e)),
        "CLaRE": _cosines(facts.hidden.astype(np.float64), e),
        "same last token": result.same_last_token[e].astype(float),
        "same relation": ((relations == relations[e]) & (relations != "")).astype(float),
    }


def gradient_cosines(facts: Sensitivity, e: int) -> np.ndarray:
    """Cosines of ∂(log-odds)/∂W = Σ_t g_t k_tᵀ of facts e and j, (m,); no d × d_m matrix is formed."""
    keys, gradients = facts.keys.astype(np.float64), facts.gradients.astype(np.float64)
    own = slice(facts.starts[e], facts.starts[e + 1])
    inner = np.add.reduceat(((keys @ keys[own].T) * (gradients @ gradients[own].T)).sum(axis=1), facts.starts[:-1])
    squares = np.empty(len(inner))
    for j, (begin, end) in enumerate(zip(facts.starts[:-1], facts.starts[1:], strict=True)):
        k, g = keys[begin:end], gradients[begin:end]
        squares[j] = ((k @ k.T) * (g @ g.T)).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: np.ndarray = inner / np.sqrt(squares * squares[e])
    return cosines


def _cosines(vectors: np.ndarray, e: int) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: np.ndarray = vectors @ vectors[e] / (norms * norms[e])
    return cosines


def _positive(number: float) -> float:
    return number if number > 0 else float("nan")
