"""Small dense systems: factors, inverses, and the curvature that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import envs
from reps_opt import REPS, Program
from reps_opt.constraints import AtMost, Equal
from reps_opt.systems.base import Cholesky, DenseFactor

RNG = np.random.default_rng(0)


def graded(m: int) -> np.ndarray:
    """A positive definite matrix whose rows differ by twenty decades."""
    scale = np.logspace(-10, 10, m)
    A = RNG.normal(size=(m, m))
    return scale[:, None] * (A @ A.T + np.eye(m)) * scale


def test_a_factor_solves_and_inverts_rows_of_any_size() -> None:
    matrix, rhs = graded(12), RNG.normal(size=(12, 3))
    factor = Cholesky(matrix.copy())
    units = 1 / np.sqrt(np.diag(matrix))
    expected = units[:, None] * np.linalg.solve(units[:, None] * matrix * units, units[:, None] * rhs)
    np.testing.assert_allclose(factor.solve(rhs), expected, rtol=1e-10)
    np.testing.assert_allclose(factor.solve(rhs[:, 0]), expected[:, 0], rtol=1e-10)
    np.testing.assert_allclose(factor.inverse() @ rhs, expected, rtol=1e-8)


def test_a_singular_matrix_gets_the_least_ridge_and_a_grounded_row_none() -> None:
    laplacian = np.diag([1.0, 2.0, 1.0]) - np.eye(3, k=1) - np.eye(3, k=-1)
    flow = np.array([1.0, 0.0, -1.0])
    for solution in (Cholesky(laplacian.copy(), np.array([0])).solve(flow), Cholesky(laplacian.copy()).solve(flow)):
        np.testing.assert_allclose(laplacian @ solution, flow, atol=1e-6)
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        Cholesky(np.array([[1.0, np.inf], [np.inf, 1.0]]))
    assert Cholesky(np.zeros((0, 0))).solve(np.zeros(0)).shape == (0,)


def test_lu_factors_solve_both_ways_and_refuse_what_is_singular() -> None:
    matrix, rhs = RNG.normal(size=(6, 6)), RNG.normal(size=6)
    factor = DenseFactor(matrix)
    np.testing.assert_allclose(factor.solve(rhs), np.linalg.solve(matrix, rhs))
    np.testing.assert_allclose(factor.solve(rhs, trans="T"), np.linalg.solve(matrix.T, rhs))
    with pytest.raises(RuntimeError, match="singular"):
        DenseFactor(np.ones((2, 2)))


@pytest.mark.parametrize(("n_states", "branching"), [(8, 3), (40, 5), (60, 60)])
def test_the_curvature_is_that_of_the_rows_however_it_is_computed(n_states: int, branching: int) -> None:
    mdp = envs.garnet(n_states, 4, branching, seed=1, gamma=0.9)
    q = mdp.occupancy(mdp.uniform_policy())
    program = REPS(mdp, q, 0.5).program
    A, weights = program.matrix.toarray(), RNG.random(program.n)
    np.testing.assert_allclose(program.gram(weights), (A * weights) @ A.T, atol=1e-13)
    np.testing.assert_allclose(program.times(weights), A @ weights)
    np.testing.assert_allclose(program.pulled(program.rhs), A.T @ program.rhs)


def test_rows_given_as_arrays_are_those_given_sparse() -> None:
    A, C = RNG.normal(size=(2, 30)), RNG.normal(size=(1, 30))
    dense = Program(np.zeros(30), {"cap": AtMost(C, np.ones(1)), "mean": Equal(A, np.zeros(2))})
    sparse = Program(
        np.zeros(30), {"cap": AtMost(sp.csr_array(C), np.ones(1)), "mean": Equal(sp.csr_array(A), np.zeros(2))}
    )
    np.testing.assert_array_equal(dense.matrix.toarray(), sparse.matrix.toarray())
    np.testing.assert_array_equal(dense.table, sparse.table)
    assert dense.signed.tolist() == [False, False, True]
