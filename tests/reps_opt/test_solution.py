"""What a solution shows, and what its certificate refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import envs
from reps_opt import MDP, REPS, LinearProgram, solve
from reps_opt.certificate import Certificate
from reps_opt.problems.occupancy_solution import OccupancySolution
from reps_opt.processes.maps import action_moves, text_map
from reps_opt.solution import Status
from reps_opt.solvers import Answer, Newton


@pytest.fixture(scope="module")
def lake() -> OccupancySolution:
    mdp = MDP.from_gymnasium("FrozenLake-v1", gamma=0.99)
    return solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.5))


class Perturbed:
    """A solver that returns Newton's answer moved by a little: the certificate must notice."""

    def __init__(self, eta: float = 1.0, multipliers: float = 0.0, point: float = 0.0) -> None:
        self.eta, self.multipliers, self.point = eta, multipliers, point

    def solve(self, program) -> Answer:  # type: ignore[no-untyped-def]
        answer = Newton().solve(program)
        rng = np.random.default_rng(0)
        return dataclasses.replace(
            answer,
            eta=answer.eta * self.eta,
            multipliers=answer.multipliers + self.multipliers * rng.normal(size=answer.multipliers.size),
            point=answer.point * np.exp(self.point * rng.normal(size=answer.point.size)),
        )


@pytest.mark.parametrize("error", [{"eta": 1.5}, {"eta": 0.5}, {"multipliers": 0.01}])
def test_a_wrong_dual_is_not_certified(lake: OccupancySolution, error: dict) -> None:
    solution = solve(lake.problem, Perturbed(**error))
    assert solution.status is Status.UNCERTIFIED
    assert solution.certificate.gap > 1e-6
    assert "duality gap" in solution.message
    assert "try" in solution.message
    # what it reports is feasible all the same, and no better than the optimum
    assert solution.certificate.flow < 1e-12
    assert solution.kl <= 0.5 + 1e-12
    assert solution.objective <= lake.objective + 1e-12
    assert solution.dual_objective >= lake.objective - 1e-12


def test_a_wrong_point_beside_a_right_dual_is_repaired(lake: OccupancySolution) -> None:
    solution = solve(lake.problem, Perturbed(point=0.5))
    assert solution.status is Status.CERTIFIED
    np.testing.assert_allclose(solution.occupancy, lake.occupancy, atol=1e-10)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("gap", 2e-6, "duality gap"),
        ("gap", -2e-6, "lost in rounding"),
        ("gap", math.nan, "duality gap"),
        ("flow", 2e-8, "constraint residual"),
        ("mass", 2e-9, "total mass"),
        ("kl", 0.5 + 2e-7, "divergence beyond"),
    ],
)
def test_each_tolerance_of_the_certificate_counts(field: str, value: float, reason: str) -> None:
    good = Certificate(gap=0.0, flow=0.0, mass=0.0, kl=0.5, epsilon=0.5, upper=1.0, lower=1.0)
    assert good.ok()
    bad = dataclasses.replace(good, **{field: value})
    assert not bad.ok()
    assert any(reason in text for text in bad.reasons())
    assert good.ok(tol=0.0)


def test_certificate_measures_the_whole_mdp(lake: OccupancySolution) -> None:
    mdp, p, check = lake.problem.mdp, lake.occupancy, lake.certificate
    flow = p.sum(axis=1) - 0.01 * mdp.mu0 - 0.99 * mdp.transitions.T @ p.ravel()
    assert check.flow == pytest.approx(np.abs(flow).sum())
    used = p > 0
    assert check.kl == pytest.approx(np.sum(p[used] * np.log(p[used] / lake.problem.reference[used])))
    assert check.lower == pytest.approx(np.sum(p * mdp.rewards), rel=1e-12)
    assert lake.certificate.upper >= lake.certificate.lower - 1e-15


def test_upper_bound_holds_for_every_policy_in_the_ball(lake: OccupancySolution) -> None:
    problem = lake.problem
    rng = np.random.default_rng(0)
    q = problem.reference
    for _ in range(200):
        target = problem.mdp.occupancy(rng.dirichlet(np.ones(4), 16))
        for share in (0.02, 0.1, 0.3):
            p = (1 - share) * q + share * target
            used = p > 0
            if np.sum(p[used] * np.log(p[used] / q[used])) <= 0.5:
                assert np.sum(p * problem.mdp.rewards) <= lake.dual_objective + 1e-12


def test_solutions_are_frozen(lake: OccupancySolution) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        lake.eta = 1.0  # type: ignore[misc]


def test_summary_says_what_a_person_wants_to_know(lake: OccupancySolution) -> None:
    text = str(lake)
    for word in ("certified", "objective", "dual objective", "gap", "eta", "epsilon 0.5", "iterations"):
        assert word in text
    assert repr(lake) == text
    page = lake._repr_html_()
    assert page.count("<tr>") == len(lake.rows())
    assert "<table>" in page


def test_xarray_has_names_and_numbers(lake: OccupancySolution) -> None:
    data = lake.to_xarray()
    assert data["occupancy"].dims == ("state", "action")
    assert data["value"].dims == ("state",)
    assert set(data) >= {"value", "occupancy", "policy", "reward", "bellman_error", "reference"}
    assert data.attrs["eta"] == lake.eta
    assert data.attrs["status"] == "certified"
    np.testing.assert_array_equal(data["policy"].sum("action"), lake.policy.sum(axis=1))


def test_bellman_error_is_undefined_where_the_value_is() -> None:
    mdp = MDP.from_gymnasium("CliffWalking-v1", gamma=0.9)
    solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1))
    cliff = mdp.unreachable
    assert np.isnan(solution.bellman_error[cliff]).all()
    assert np.isfinite(np.delete(solution.bellman_error, cliff, axis=0)).all()


def test_figure_draws_map_and_chain(lake: OccupancySolution) -> None:
    figure = lake.plot()
    assert len(figure.axes) >= 4
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert any("dual objective" in text for text in texts)
    assert {"S", "F", "H", "G"} <= set(texts)
    chain = envs.single_chain()
    assert solve(LinearProgram(chain)).plot().axes


@pytest.mark.parametrize(
    ("name", "arrows"),
    [("FrozenLake-v1", [(-1, 0), (0, 1), (1, 0), (0, -1)]), ("CliffWalking-v1", [(0, -1), (1, 0), (0, 1), (-1, 0)])],
)
def test_moves_are_read_off_the_transitions(name: str, arrows: list) -> None:
    np.testing.assert_array_equal(action_moves(MDP.from_gymnasium(name)), arrows)


def test_text_map_shows_every_state(lake: OccupancySolution) -> None:
    lines = text_map(lake).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("S")
    assert f"{lake.value[14]:.3f}" in lines[3]


def test_without_a_map_the_states_are_listed_by_their_labels() -> None:
    chain = envs.single_chain()
    assert len(text_map(solve(LinearProgram(chain))).splitlines()) == chain.n_states
    labelled = chain.replace(state_labels=list("abcde"), action_labels=["right", "back"])
    solution = solve(LinearProgram(labelled))
    shown = text_map(solution).splitlines()
    for line, state, row, v in zip(shown, "abcde", solution.policy, solution.value, strict=True):
        assert line.split() == [state, ["right", "back"][row.argmax()], f"{row.max():.2f}", f"{v:.3f}"]
    assert f"policy          a: {['right', 'back'][solution.policy[0].argmax()]} 1" in str(solution)
    (panel, *_) = solution.plot().axes
    assert {text.get_text() for text in panel.get_legend().get_texts()} == {"right", "back"}
    assert [tick.get_text() for tick in panel.get_xticklabels()] == list("abcde")


def test_an_unknown_certificate_is_never_ok() -> None:
    check = Certificate.unknown(0.5)
    assert check.epsilon == 0.5
    assert not check.ok()
    assert not check.ok(tol=math.inf)
