"""What the explorer shows is what ``solve`` says of the problem that was asked about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reps_opt import MDP, REPS, ConditionalREPS, Status, solve
from reps_opt.explorer.asking import CONDITIONAL, DIVERGENCES, HALF_OPTIMAL, Explorer, Question, start_values, with_slip

ASKED = Question(0.3, gamma=0.95, slip=0.5, reference=HALF_OPTIMAL)


@pytest.fixture(params=["4x4", "8x8"])
def map_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def explorer(map_name: str) -> Explorer:
    return Explorer(lambda slip: MDP.from_gymnasium("FrozenLake-v1", map_name=map_name, success_rate=1 - slip))


@pytest.fixture
def lake(map_name: str) -> MDP:
    """The MDP that ``ASKED`` is about."""
    return MDP.from_gymnasium("FrozenLake-v1", 0.95, map_name=map_name, success_rate=0.5)


def half_optimal(mdp: MDP) -> np.ndarray:
    return 0.5 * mdp.uniform_policy() + 0.5 * mdp.solve_optimal().policy


@pytest.mark.parametrize("divergence", [*DIVERGENCES])
def test_an_answer_is_that_of_solve_whatever_was_asked_before(explorer: Explorer, lake: MDP, divergence: str) -> None:
    asked, policy = replace(ASKED, divergence=divergence), half_optimal(lake)
    for other in ({"epsilon": 0.2}, {"gamma": 0.9}, {"slip": 0.1}, {"budget": 0.9}):
        explorer.answer(replace(asked, **other))
    solution = explorer.answer(asked)
    if divergence == CONDITIONAL:
        expected = solve(ConditionalREPS(lake, policy, 0.3))
    else:
        expected = solve(REPS(lake, lake.occupancy(policy), 0.3, divergence=DIVERGENCES[divergence]))
    assert solution.status is expected.status is Status.CERTIFIED
    assert solution.objective == pytest.approx(expected.objective, abs=1e-8)
    assert solution.eta == pytest.approx(expected.eta, rel=1e-4)


def test_a_budget_is_a_share_of_what_the_reference_costs(explorer: Explorer, lake: MDP) -> None:
    solution = explorer.answer(replace(ASKED, budget=0.6))
    holes = np.array([letter == "H" for letter in "".join(lake.layout or ())])
    spent = lake.occupancy(half_optimal(lake))[holes].sum()
    assert explorer.cost_name == "time in the states H"
    assert solution.expected_costs[0] <= 0.6 * spent + 1e-9
    assert explorer.answer(ASKED).state_distribution[holes].sum() > 0.6 * spent  # so that the budget mattered
    assert explorer.answer(replace(ASKED, budget=0.0)).status is Status.INFEASIBLE


def test_the_curve_holds_the_etas_of_single_answers(explorer: Explorer) -> None:
    curve = list(explorer.eta_curve(ASKED))
    for epsilon, eta in curve[::5]:
        assert eta == pytest.approx(explorer.answer(replace(ASKED, epsilon=epsilon)).eta, rel=1e-4, abs=1e-9)
    assert np.all(np.diff([eta for _, eta in curve]) <= 1e-9)


def test_the_new_policy_can_be_the_next_reference(explorer: Explorer) -> None:
    policy = explorer.answer(ASKED).policy
    again = explorer.answer(replace(ASKED, reference=explorer.keep(policy)))
    np.testing.assert_allclose(again.problem.reference, again.problem.mdp.occupancy(policy), atol=1e-12)


def test_slip_of_an_mdp_is_another_action_now_and_then() -> None:
    mdp = MDP.from_gymnasium("CliffWalking-v1", 0.9)
    policy = mdp.solve_optimal().policy
    noisy = 0.7 * policy + 0.3 * mdp.uniform_policy()  # the noise in the policy instead
    np.testing.assert_allclose(with_slip(mdp, 0.3).value(policy), mdp.value(noisy), rtol=1e-12, atol=1e-12)
    assert with_slip(mdp, 0.0) is mdp


def test_costs_are_named_where_there_are_no_holes() -> None:
    assert Explorer(MDP.from_gymnasium("CliffWalking-v1")).cost_name == "pairs with reward -100"
    flat = MDP(np.full((2, 1, 2), 0.5), np.zeros((2, 1)))
    assert not Explorer(flat).has_costs
    with pytest.raises(ValueError, match="costs"):
        Explorer(flat, costs=[1.0])


def test_values_of_the_start_are_those_of_the_policies(explorer: Explorer, lake: MDP) -> None:
    found = dict(start_values(explorer.answer(ASKED)))
    assert float(found["optimal policy"]) == pytest.approx(lake.solve_optimal().value[0], rel=1e-5)
    assert float(found["uniform policy"]) == pytest.approx(lake.value(lake.uniform_policy())[0], rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epsilon": -1.0}, "epsilon"),
        ({"gamma": 1.0}, "gamma"),
        ({"slip": 2.0}, "slip"),
        ({"budget": -1.0}, "budget"),
        ({"divergence": "nearness"}, "divergence"),
    ],
)
def test_questions_that_cannot_be_asked_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Question(**wrong)
