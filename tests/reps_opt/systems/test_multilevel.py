"""Multilevel preconditioning: what a matching is, what a preconditioner must be, and what it spares."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import envs
from reps_opt import MDP, REPS, Status, solve
from reps_opt.solvers import Newton
from reps_opt.systems.iterative import ConjugateGradientEquations
from reps_opt.systems.multilevel import Multilevel, match
from reps_opt.tolerances import DENSE_ROWS


def posed(side=40, gamma=0.99):
    """A grid's program and its curvature ``A diag(q) A'`` under a random reference policy."""
    mdp = envs.gridworld((side, side), slip=0.2, gamma=gamma)
    policy = np.random.default_rng(0).dirichlet(np.ones(4), size=mdp.n_states)
    program = REPS(mdp, mdp.occupancy(policy), 0.5).program
    weights = program.divergence.reference
    return program, (program.matrix @ sp.diags_array(weights) @ program.transpose).tocsr()


def test_a_matching_joins_pairs_of_neighbours() -> None:
    _, curvature = posed()
    alone = np.arange(curvature.shape[0]) < 10
    label = match(curvature, alone)
    sizes = np.bincount(label)
    assert sizes.min() == 1
    assert sizes.max() == 2
    assert (sizes == 2).sum() > 0.35 * label.size
    assert (sizes[label[alone]] == 1).all()
    order = np.argsort(label, kind="stable")
    first = np.flatnonzero(np.diff(label[order]) == 0)
    coupled = np.asarray(curvature[order[first], order[first + 1]])
    assert (coupled != 0).all()


def test_the_coarse_levels_are_symmetric_and_positive() -> None:
    _, curvature = posed()
    levels = Multilevel(curvature)
    levels.update(curvature, 0.0)
    assert len(levels.levels) >= 1
    assert levels.levels[-1].size <= DENSE_ROWS
    x, y = np.random.default_rng(1).normal(size=(2, curvature.shape[0]))
    assert x @ levels.correction(y) == pytest.approx(y @ levels.correction(x), rel=1e-9)
    assert x @ levels.correction(x) > 0


@pytest.mark.parametrize("gamma", [0.95, 0.99, 0.999])
def test_conjugate_gradient_agrees_with_a_factorisation_at_a_cost_that_gamma_does_not_raise(gamma: float) -> None:
    program, curvature = posed(gamma=gamma)
    rhs = curvature @ np.random.default_rng(2).normal(size=curvature.shape[0])
    equations = ConjugateGradientEquations(program)
    equations.update(program.divergence.reference, ~program.signed)
    solution = equations.solve(rhs, 1e-9)
    exact = spla.splu(curvature.tocsc()).solve(rhs)
    energy = (solution - exact) @ curvature @ (solution - exact)
    assert energy <= 1e-14 * (exact @ curvature @ exact)
    assert equations.stats["linear_iterations"] <= 150


def test_a_hub_that_pairs_with_one_row_at_a_time_has_no_levels() -> None:
    """Rows that are all coupled to the same one would take a level each."""
    m = 2 * DENSE_ROWS
    spokes = sp.csr_array((np.full(m - 1, -0.5), (np.zeros(m - 1, dtype=int), np.arange(1, m))), shape=(m, m))
    matrix = (sp.diags_array(np.append(float(m), np.ones(m - 1))) + spokes + spokes.T).tocsr()
    assert not Multilevel(matrix).levels


def test_a_row_is_not_matched_along_a_coupling_much_weaker_than_its_strongest() -> None:
    """The first row's best partner prefers another, and it stays alone, for the coupling that is left is a fifth."""
    couplings = np.zeros((4, 4))
    couplings[[0, 0, 1], [1, 2, 3]] = -0.5, -0.1, -0.9
    label = match(sp.csr_array(couplings + couplings.T + np.eye(4)))
    assert label[1] == label[3]
    assert label[0] != label[2]


def test_matchings_of_several_rounds_spare_products() -> None:
    mdp = envs.gridworld((60, 60), slip=0.2, gamma=0.99)
    solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.3), Newton(linear_solver="cg"))
    assert solution.status is Status.CERTIFIED
    assert solution.stats["linear_iterations"] < 255  # 229; with half of the rounds 281


def test_a_factorisation_takes_over_where_a_solve_has_spent_its_iterations(monkeypatch) -> None:
    mdp = envs.gridworld((25, 25), slip=0.2, gamma=0.99)
    rewards = np.random.default_rng(0).random((mdp.n_states, 4))
    mdp = MDP(mdp.transitions, rewards, gamma=0.99)
    problem = REPS(mdp, mdp.occupancy(mdp.uniform_policy()), epsilon=0.5)
    patient = solve(problem, Newton(linear_solver="cg"))
    assert patient.stats["factorisations"] == 0
    monkeypatch.setattr("reps_opt.systems.iterative.KRYLOV_ITERATIONS", 5)
    solution = solve(problem, Newton(linear_solver="cg"))
    assert solution.status is Status.CERTIFIED
    assert solution.stats["factorisations"] == solution.stats["iterations"] + 1
    np.testing.assert_allclose(solution.occupancy, patient.occupancy, atol=1e-10)
