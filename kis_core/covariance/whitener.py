"""Whitening: a factor of the second moment C, never its inverse, and how well C is conditioned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from kis_core.errors import KisError

MAX_CONDITION = 1e10
"""Above this condition number C gets a ridge: float64 Cholesky would leave fewer than six digits of P."""
RIDGE_SHARE = 1e-7
"""The ridge, as a share of C's largest eigenvalue: brings the condition number to 1e7, so nine digits of P are sure."""
MOST_NEGATIVE = 1e-2
"""As a share of the largest: an eigenvalue further below zero is no rounding error, not even of sums in TF32."""
ALL_EIGENVALUES = 4096
"""Up to this width every eigenvalue is computed; above, where that takes many minutes, the two ends by Lanczos."""
LANCZOS_TOLERANCE = 1e-6  # relative error of an end of the spectrum; the condition number is shown with two digits


class NoSecondMoment(KisError, ValueError):
    """A matrix that is zero, or cannot be a second moment."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitener:
    """A Cholesky factor of C (plus ridge, if one was needed), never an inverse.

    Attributes:
        factor: lower triangular F with F Fᵀ = C + ridge·I, float64, (d_m, d_m).
        rank: numerical rank of C before any ridge.
        condition_number: largest over smallest eigenvalue of C before any ridge; inf when singular.
        ridge: what was added to C's diagonal, in units of C; 0 when C was well conditioned. Where rounding of float32
            sums has left a negative eigenvalue, it is larger by as much.
    """

    factor: np.ndarray
    rank: int
    condition_number: float
    ridge: float

    @classmethod
    def fit(cls, matrix: np.ndarray) -> Whitener:
        """Factorise a symmetric positive semidefinite matrix.

        Raises:
            NoSecondMoment: not a finite, non-zero square matrix; or it has eigenvalues far below zero.
        """
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise NoSecondMoment(f"C has shape {matrix.shape}; a square matrix was expected")
        if not np.isfinite(matrix).all():
            raise NoSecondMoment("C holds a NaN or an infinity")
        if len(matrix) > ALL_EIGENVALUES and (whitener := _well_conditioned(matrix)):
            return whitener
        eigenvalues = scipy.linalg.eigvalsh(matrix)
        largest, smallest = float(eigenvalues[-1]), float(eigenvalues[0])
        if largest <= 0:
            raise NoSecondMoment("C is zero: the corpus gave no keys, or the layer is dead")
        if smallest < -MOST_NEGATIVE * largest:
            raise NoSecondMoment(f"C is no second moment: its eigenvalues go from {smallest:.3g} to {largest:.3g}")
        cutoff = largest * len(matrix) * np.finfo(np.float64).eps  # numpy's own rule for matrix_rank
        rank = int((eigenvalues > cutoff).sum())
        condition = largest / smallest if smallest > cutoff else float("inf")
        ridge = 0.0 if condition <= MAX_CONDITION else RIDGE_SHARE * largest
        ridge -= smallest if smallest < -cutoff else 0.0
        ridged = matrix.copy(order="F")  # as LAPACK wants it: the factor takes its place
        ridged[np.diag_indices_from(ridged)] += ridge
        return cls(scipy.linalg.cholesky(ridged, lower=True, overwrite_a=True), rank, condition, ridge)

    def whiten(self, keys: np.ndarray) -> np.ndarray:
        """Rows F⁻¹k, so that plain inner products of the result are kᵀC⁻¹k'. Shape (m, d_m), float64."""
        return np.asarray(scipy.linalg.solve_triangular(self.factor, keys.astype(np.float64).T, lower=True).T)

    def solve(self, key: np.ndarray) -> np.ndarray:
        """C⁻¹k (with the ridge, if there is one). Shape (d_m,), float64."""
        return np.asarray(scipy.linalg.cho_solve((self.factor, True), key.astype(np.float64)))


def _well_conditioned(matrix: np.ndarray) -> Whitener | None:
    """The factor of a wide C that needs no ridge, without all eigenvalues; None where they have to be computed."""
    size, start = len(matrix), np.random.default_rng(0).normal(size=len(matrix))  # lies in no eigenspace of C
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True)
        operator = scipy.sparse.linalg.LinearOperator(
            matrix.shape, matvec=lambda vector: scipy.linalg.cho_solve((factor, True), vector), dtype=np.float64
        )
        ends = [
            float(scipy.sparse.linalg.eigsh(linear, k=1, tol=LANCZOS_TOLERANCE, v0=start, return_eigenvectors=False)[0])
            for linear in (matrix, operator)  # the largest of C, and of its inverse
        ]
    except (scipy.linalg.LinAlgError, scipy.sparse.linalg.ArpackError):
        return None
    condition = ends[0] * ends[1]
    return Whitener(factor, size, condition, 0.0) if 0 < condition <= MAX_CONDITION else None
