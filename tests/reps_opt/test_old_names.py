"""Names that changed with 0.3: the old ones warn, where they are used, and mean what they meant."""

import numpy as np
import pytest

import envs
from reps_opt import REPS, ConditionalREPS, ExactTRPO, FiniteHorizonREPS, TrustRegionStep, solve, solvers

MDP = envs.single_chain()
POLICY = MDP.uniform_policy()
PROBLEMS = {
    "REPS": REPS(MDP, MDP.occupancy(POLICY), epsilon=0.1),
    "ExactTRPO": ExactTRPO(MDP, POLICY, epsilon=0.1),
    "TrustRegionStep": TrustRegionStep([1.0, 2.0], np.eye(2), epsilon=0.1),
}


@pytest.mark.parametrize(("family", "extra"), [(ConditionalREPS, {}), (FiniteHorizonREPS, {"horizon": 3})])
def test_an_old_argument_is_taken_with_a_warning(family, extra):
    with pytest.warns(DeprecationWarning, match="reference is called policy now") as caught:
        problem = family(MDP, reference=POLICY, epsilon=0.1, **extra)
    assert problem == family(MDP, policy=POLICY, epsilon=0.1, **extra)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [(name, "predicted_improvement", "predicted_gain") for name in PROBLEMS]
    + [("ExactTRPO", "actual_improvement", "gain")],
)
def test_an_old_reading_is_the_new_one_with_a_warning(family, old, new):
    solution = solve(PROBLEMS[family])
    with pytest.warns(DeprecationWarning, match=f"{old} is called {new} now") as caught:
        assert getattr(solution, old) == getattr(solution, new)
    assert caught[0].filename == __file__


def test_the_reduction_of_a_problem_is_its_flow():
    with pytest.warns(DeprecationWarning, match="reduction is called flow now"):
        assert PROBLEMS["REPS"].reduction is PROBLEMS["REPS"].flow
    with pytest.warns(DeprecationWarning, match="states is called flow.nodes now"):
        assert PROBLEMS["ExactTRPO"].states is PROBLEMS["ExactTRPO"].flow.nodes


@pytest.mark.parametrize("old", ["ScalarDual", "Statewise"])
def test_an_old_solver_is_the_new_one_with_a_warning(old):
    with pytest.warns(DeprecationWarning, match=f"{old} is called EtaSearch now"):
        assert getattr(solvers, old) is solvers.EtaSearch
