"""REPS from samples: every route and every hard case, against CVXPY and closed forms."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np
import pytest
from sklearn.preprocessing import PolynomialFeatures

from policies import LinearGaussianPolicy
from reps_opt import Batch, EpisodicREPS, REPSUpdate, SampleREPS, Status, solve, top_half
from reps_opt.solvers import CvxpyDual, CvxpyPrimal, Newton, ScipyDual

ROUTES = [Newton(), ScipyDual(), ScipyDual("L-BFGS-B"), CvxpyPrimal(), CvxpyDual()]


def draw(n=300, d=4, seed=0):
    """Rewards (n,) that the features explain in part, and feature differences (n, d)."""
    rng = np.random.default_rng(seed)
    psi = rng.normal(size=(n, d)) @ (np.eye(d) + rng.normal(size=(d, d)) / np.sqrt(d))
    return psi[:, 0] + np.sin(psi[:, -1]) + rng.normal(size=n), psi


def by_cvxpy(r, psi, epsilon, base=None):
    """Objective and weights of the primal, written out here anew, at tight tolerances."""
    n = r.size
    base = np.full(n, 1 / n) if base is None else base / base.sum()
    w = cp.Variable(n, nonneg=True)
    matched = [] if psi is None else [psi.T @ w == 0]
    unit = np.ptp(r)
    constraints = [*matched, cp.sum(w) == 1, cp.sum(cp.rel_entr(w, base)) <= epsilon]
    problem = cp.Problem(cp.Maximize((r - r.min()) / unit @ w), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tight = {f"tol_{name}": 1e-11 for name in ("gap_abs", "gap_rel", "feas")}
        problem.solve(solver="CLARABEL", accept_unknown=True, max_iter=100, **tight)
    return problem.status, None if w.value is None else float(problem.value * unit + r.min()), w.value


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_cvxpy(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(20, 60)), int(rng.integers(0, 5))
    r, psi = draw(n, max(d, 1), seed)
    psi = None if d == 0 else psi
    base = rng.uniform(0.2, 1.0, n) if seed % 2 else None
    epsilon = float(rng.choice([0.3, 0.5, 1.0, 2.0]))
    status, objective, w = by_cvxpy(r, psi, epsilon, base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an effective sample size below two
        if psi is None:
            solution = solve(EpisodicREPS(r, epsilon=epsilon, base_weights=base))
        else:
            solution = solve(SampleREPS(r, psi, epsilon, base))
    if solution.status == Status.INFEASIBLE:
        assert solution.epsilon_min > epsilon
        assert "infeasible" in status
        return
    assert solution.status == Status.CERTIFIED
    assert solution.objective == pytest.approx(objective, abs=1e-6 * np.ptp(r))
    if solution.eta > 1e-3 * np.ptp(r):  # elsewhere the weights need not be unique to this accuracy
        assert np.abs(solution.weights("sum") - w).max() < 1e-4


@pytest.mark.parametrize("route", ROUTES, ids=repr)
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 2.0])
def test_every_route_gives_the_same_answer(route, epsilon):
    r, psi = draw()
    ours = solve(SampleREPS(r, psi, epsilon))
    other = solve(SampleREPS(r, psi, epsilon), route)
    assert ours.certificate.ok(1e-8)
    assert abs(ours.kl - epsilon) <= 1e-10
    assert ours.certificate.flow <= 1e-10
    assert other.has_point
    assert other.certificate.gap < 1e-6
    assert other.objective == pytest.approx(ours.objective, abs=1e-6 * np.ptp(r))
    assert other.theta == pytest.approx(ours.theta, abs=1e-3)


@pytest.mark.parametrize("route", ROUTES, ids=repr)
def test_every_route_solves_the_episodic_dual(route):
    r, _ = draw()
    ours, other = solve(EpisodicREPS(r)), solve(EpisodicREPS(r), route)
    assert other.status == Status.CERTIFIED
    assert other.eta == pytest.approx(ours.eta, rel=1e-6)


@pytest.mark.parametrize("route", [Newton(), CvxpyPrimal(), CvxpyDual()], ids=repr)
def test_ridge_on_every_route_that_takes_one(route):
    r, psi = draw()
    ours, other = solve(SampleREPS(r, psi, 0.5, ridge=0.1)), solve(SampleREPS(r, psi, 0.5, ridge=0.1), route)
    assert ours.status == other.status == Status.CERTIFIED
    assert other.theta == pytest.approx(ours.theta, abs=1e-3)
    missed = ours.weights("sum") @ psi
    assert missed == pytest.approx(-0.1 * ours.theta, abs=1e-9)  # stationarity in theta
    with pytest.raises(ValueError, match="no ridge"):
        solve(SampleREPS(r, psi, ridge=0.1), ScipyDual())


def test_multipliers_are_derivatives():
    r, psi = draw()
    here = solve(SampleREPS(r, psi, 0.5))
    step = 1e-5
    up, down = (solve(SampleREPS(r, psi, 0.5 + s)).objective for s in (step, -step))
    assert here.eta == pytest.approx((up - down) / (2 * step), rel=1e-6)
    shift = np.array([step, 0.0, 0.0, 0.0])  # sum w (psi - shift) = 0 moves the right-hand side by the shift
    up, down = (solve(SampleREPS(r, psi - s * shift / step, 0.5)).objective for s in (step, -step))
    assert here.theta[0] == pytest.approx(-(up - down) / (2 * step), rel=1e-5)


def test_weights_are_the_softmax_of_the_bellman_error():
    r, psi = draw()
    solution = solve(SampleREPS(r, psi, 0.5))
    delta = r + psi @ solution.theta
    assert solution.bellman_error == pytest.approx(delta, abs=1e-12)
    w = np.exp((delta - delta.max()) / solution.eta)
    assert solution.weights("sum") == pytest.approx(w / w.sum(), abs=1e-12)
    assert solution.duals["normalisation"] == pytest.approx(
        solution.eta * np.log(np.mean(np.exp(delta / solution.eta)))
    )


def test_scales_of_the_weights():
    solution = solve(SampleREPS(*draw()))
    assert solution.weights("sum").sum() == pytest.approx(1)
    assert solution.weights("mean").mean() == pytest.approx(1)
    w = solution.weights("ess")
    assert w.sum() == pytest.approx(solution.ess)
    assert w.sum() ** 2 / (w**2).sum() == pytest.approx(solution.ess)
    with pytest.raises(ValueError, match="scale must be one of"):
        solution.weights("max")


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 2.0, 4.0])
def test_large_and_small_balls(epsilon):
    r, psi = draw(5000, 8)
    solution = solve(SampleREPS(r, psi, epsilon))
    assert solution.status == Status.CERTIFIED
    assert abs(solution.kl - epsilon) <= 1e-10
    assert solution.certificate.flow <= 1e-10
    assert solution.certificate.gap <= 1e-8


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_eta_and_theta_scale_with_the_reward(scale):
    r, psi = draw()
    one, other = solve(SampleREPS(r, psi)), solve(SampleREPS(scale * r, psi))
    assert other.status == Status.CERTIFIED
    assert other.eta == pytest.approx(scale * one.eta, rel=1e-9)
    assert other.theta == pytest.approx(scale * one.theta, rel=1e-8)


def test_a_shift_of_the_reward_changes_the_objective_only():
    r, psi = draw()
    one, other = solve(SampleREPS(r, psi)), solve(SampleREPS(r + 1e6, psi))
    assert other.status == Status.CERTIFIED
    assert other.eta == pytest.approx(one.eta, rel=1e-7)
    assert other.objective == pytest.approx(one.objective + 1e6, abs=1e-8)


@pytest.mark.parametrize("scale", [[1e-3, 1.0, 1e3, 1e-3], [1e-200, 1e120, 1.0, 1e-80]], ids=str)
def test_columns_of_any_scale(scale):
    r, psi = draw()
    scale = np.array(scale)
    one, other = solve(SampleREPS(r, psi)), solve(SampleREPS(r, psi * scale))
    assert other.status == Status.CERTIFIED
    assert other.theta * scale == pytest.approx(one.theta, rel=1e-8)


@pytest.mark.parametrize("route", ROUTES, ids=repr)
def test_dependent_columns(route):
    r, psi = draw()
    more = np.column_stack([psi, psi[:, 0], psi[:, 1] - psi[:, 2], np.zeros(r.size)])
    one, other = solve(SampleREPS(r, psi)), solve(SampleREPS(r, more), route)
    assert other.rank == 4
    assert other.certificate.gap < 1e-6
    assert other.weights("sum") == pytest.approx(one.weights("sum"), abs=1e-5)  # a gap of 1e-6 allows no more
    assert other.theta[-1] == 0
    null = np.zeros(7)
    null[[0, 4]] = 1, -1
    assert other.theta @ null == pytest.approx(0, abs=1e-9)  # the shortest theta


def test_infeasible_match_reports_the_smallest_radius():
    r, psi = draw()
    solution = solve(SampleREPS(r, psi + 0.3, 0.05))
    assert solution.status == Status.INFEASIBLE
    assert np.isnan(solution.weights("sum")).all()
    least = solution.epsilon_min
    assert solve(SampleREPS(r, psi + 0.3, least * 1.01)).status == Status.CERTIFIED
    assert solve(SampleREPS(r, psi + 0.3, least * 0.99)).status == Status.INFEASIBLE
    w = cp.Variable(r.size, nonneg=True)
    matched = [(psi + 0.3).T @ w == 0, cp.sum(w) == 1]
    cp.Problem(cp.Minimize(cp.sum(cp.rel_entr(w, np.full(r.size, 1 / r.size)))), matched).solve(solver="CLARABEL")
    assert least == pytest.approx(float(np.sum(w.value * np.log(w.value * r.size))), abs=1e-6)


@pytest.mark.parametrize("column", [np.ones(300), np.arange(1.0, 301.0)], ids=["constant", "positive"])
@pytest.mark.parametrize("route", [None, CvxpyPrimal()], ids=repr)
def test_no_radius_helps_a_feature_of_one_sign(column, route):
    r, psi = draw()
    solution = solve(SampleREPS(r, np.column_stack([psi, column]), 0.5), route)
    assert solution.status == Status.INFEASIBLE
    assert solution.epsilon_min == np.inf


@pytest.mark.parametrize("epsilon", [5.6, 20.0, np.inf])
def test_slack_ball_is_the_linear_program(epsilon):
    from scipy.optimize import linprog

    r, psi = draw()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = solve(SampleREPS(r, psi, epsilon))
    best = linprog(-r, A_eq=np.vstack([psi.T, np.ones(r.size)]), b_eq=[0, 0, 0, 0, 1])
    assert solution.status == Status.CERTIFIED
    assert solution.eta == 0
    assert solution.objective == pytest.approx(-best.fun, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_every_radius_from_infeasible_to_slack(seed):
    r, psi = draw(100 + 20 * seed, 1 + seed % 6, seed)
    best = -np.inf
    for epsilon in np.linspace(0.02, np.log(r.size) + 0.1, 15):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            solution = solve(SampleREPS(r, psi, epsilon))
        if solution.status == Status.INFEASIBLE:
            assert solution.epsilon_min > epsilon
            assert best == -np.inf
            continue
        assert solution.status == Status.CERTIFIED
        assert solution.objective >= best - 1e-9
        best = solution.objective


def test_ties_in_a_slack_ball():
    returns = [1.0, 1.0, 0.0, 0.0]
    slack = solve(EpisodicREPS(returns, epsilon=np.log(2)))
    assert (slack.status, slack.eta) == (Status.CERTIFIED, 0.0)
    assert slack.weights("sum") == pytest.approx([0.5, 0.5, 0, 0])
    almost = solve(EpisodicREPS(returns, epsilon=np.log(2) - 1e-3))
    assert almost.status == Status.CERTIFIED
    assert almost.eta > 0
    with pytest.warns(UserWarning, match="effective sample size"):
        three_to_one = solve(EpisodicREPS(returns, epsilon=2.0, base_weights=[3, 1, 1, 1]))
    assert three_to_one.weights("sum") == pytest.approx([0.75, 0.25, 0, 0])


def test_constant_rewards_return_the_base():
    r, psi = np.full(50, 3.0), draw(50)[1]
    episodic = solve(EpisodicREPS(r))
    assert episodic.status == Status.CERTIFIED
    assert episodic.weights("sum") == pytest.approx(np.full(50, 0.02))
    matched = solve(SampleREPS(r, psi, 1.0))
    assert matched.status == Status.CERTIFIED
    assert np.abs(matched.weights("sum") @ psi).max() < 1e-9
    assert solve(SampleREPS(r, psi, 1e-4)).status == Status.INFEASIBLE


def test_epsilon_zero_is_the_base():
    solution = solve(EpisodicREPS([1.0, 2.0, 4.0], epsilon=0.0))
    assert (solution.status, solution.eta) == (Status.CERTIFIED, np.inf)
    assert solution.weights("sum") == pytest.approx(np.full(3, 1 / 3))
    assert solve(SampleREPS(*draw(), 0.0)).status == Status.INFEASIBLE


def test_one_sample():
    assert solve(SampleREPS([2.0], [[0.0, 0.0]])).objective == 2.0
    assert solve(EpisodicREPS([2.0])).status == Status.CERTIFIED
    assert solve(SampleREPS([2.0], [[0.0, 1.0]])).status == Status.INFEASIBLE


def test_a_small_effective_sample_size_warns():
    with pytest.warns(UserWarning, match=r"effective sample size is 1\.\d\d of 5.*smaller epsilon"):
        solution = solve(EpisodicREPS([0.0, 0.1, 0.2, 0.3, 9.0], epsilon=1.4))
    assert solution.status == Status.CERTIFIED


def test_base_weights_of_zero_stay_zero():
    r, psi = draw()
    base = np.where(np.arange(r.size) % 3 == 0, 0.0, 1.0)
    some, all_of_them = solve(SampleREPS(r, psi, 0.5, base)), solve(SampleREPS(r[base > 0], psi[base > 0], 0.5))
    assert (some.weights("sum")[base == 0] == 0).all()
    assert some.weights("sum")[base > 0] == pytest.approx(all_of_them.weights("sum"))


@pytest.mark.parametrize("temperature", [0.01, 0.5, 100.0])
def test_fixed_temperature(temperature):
    r, psi = draw()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = solve(SampleREPS(r, psi, temperature=temperature))
    assert solution.status == Status.CERTIFIED
    assert solution.eta == temperature
    same = solve(SampleREPS(r, psi, epsilon=solution.kl)) if temperature > 0.1 else None
    if same is not None:  # the ball of the radius reached has this temperature for its multiplier
        assert same.eta == pytest.approx(temperature, rel=1e-6)


def test_weights_of_related_methods():
    advantages = draw()[0]
    awr = solve(EpisodicREPS(advantages, temperature=0.7)).weights("sum")
    softmax = np.exp(advantages / 0.7)
    assert awr == pytest.approx(softmax / softmax.sum(), abs=1e-14)
    kept = top_half(advantages)
    vmpo = solve(EpisodicREPS(advantages, epsilon=0.1, base_weights=kept))
    assert kept.sum() == 150
    assert advantages[kept > 0].min() > advantages[kept == 0].max()
    w = np.where(kept > 0, np.exp(advantages / vmpo.eta), 0.0)
    assert vmpo.weights("sum") == pytest.approx(w / w.sum(), abs=1e-12)
    grid = vmpo.eta * np.linspace(0.9, 1.1, 201)  # V-MPO's temperature loss is least at eta
    loss = [eta * 0.1 + eta * np.log(np.mean(np.exp(advantages[kept > 0] / eta))) for eta in grid]
    assert grid[np.argmin(loss)] == pytest.approx(vmpo.eta, rel=2e-3)


def test_contexts_leave_their_mean_where_it_was():
    rng = np.random.default_rng(0)
    c = rng.normal(size=(400, 2))
    r = 5 * c[:, 0] + rng.normal(size=400)
    without, with_contexts = solve(EpisodicREPS(r)), solve(EpisodicREPS(r, np.column_stack([c, np.ones(400)])))
    assert abs((without.weights("sum") @ c - c.mean(axis=0))[0]) > 0.5
    assert with_contexts.weights("sum") @ c == pytest.approx(c.mean(axis=0), abs=1e-10)
    assert with_contexts.rank == 2  # the constant feature is matched by any weights
    slope = with_contexts.value([[1.0, 0.0, 0.0]]) - with_contexts.value([[0.0, 0.0, 0.0]])
    assert slope == pytest.approx(5.0, abs=0.3)


def test_input_of_any_layout_is_left_alone():
    r, psi = draw(60, 2)
    psi = psi.astype(np.float32).astype(float)
    kept = psi.copy()
    expected = solve(SampleREPS(r, psi)).weights("sum")
    frozen = np.asfortranarray(psi)
    frozen.flags.writeable = False
    for version in (frozen, psi.astype(np.float32), psi.tolist(), np.repeat(psi, 2, axis=0)[::2]):
        assert solve(SampleREPS(r, version)).weights("sum") == pytest.approx(expected, abs=1e-12)
    assert (psi == kept).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": []}, "rewards is empty"),
        ({"rewards": [1.0, np.nan, 0.0]}, r"rewards\[1\] is nan"),
        ({"feature_differences": [[0.0], [np.inf], [0.0]]}, r"feature_differences\[1, 0\] is inf"),
        ({"feature_differences": [[0.0], [1.0]]}, "feature_differences must have shape"),
        ({"base_weights": [1.0, -1.0, 1.0]}, r"base_weights\[1\] is -1"),
        ({"base_weights": [0.0, 0.0, 0.0]}, "base_weights sum to zero"),
        ({"base_weights": [1.0, 1.0]}, "base_weights must have shape"),
        ({"epsilon": -1.0}, "epsilon must be >= 0"),
        ({"epsilon": np.nan}, "epsilon must be >= 0"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"ridge": -1.0}, "ridge must be >= 0"),
    ],
)
def test_bad_input(arguments, message):
    good = {"rewards": [1.0, 2.0, 3.0], "feature_differences": [[1.0], [-1.0], [0.0]]}
    with pytest.raises(ValueError, match=message):
        SampleREPS(**{**good, **arguments})
    with pytest.raises(TypeError, match="rewards must hold real numbers"):
        SampleREPS(["a", "b", "c"], good["feature_differences"])


def test_explicit_cvxpy_problems():
    r, psi = draw(60, 2)
    problem = SampleREPS(r, psi, 0.5)
    primal, dual = problem.to_cvxpy("primal"), problem.to_cvxpy("dual")
    assert {c.label for c in primal.constraints} == {"features", "normalisation", "kl"}
    best = solve(problem).objective
    assert primal.solve(solver="CLARABEL") == pytest.approx(best, abs=1e-5)
    assert dual.solve(solver="CLARABEL") == pytest.approx(best, abs=1e-5)


def test_summary_names_what_a_person_wants_to_know():
    solution = solve(SampleREPS(*draw()))
    text = str(solution)
    for word in ("certified", "eta", "ess", "rank", "gap", "passes"):
        assert word in text
    assert solution.to_xarray().weights.sum() == pytest.approx(1)
    assert "<table>" in solution._repr_html_()


def test_a_radius_beside_a_temperature_is_refused():
    batch = Batch([[0.0], [1.0]], [[0.0], [0.0]], [0.0, 1.0], [[1.0], [0.0]], truncated=[False, True])
    for make in (
        lambda: SampleREPS([0.0, 1.0], [[0.0], [0.0]], epsilon=0.5, temperature=1.0),
        lambda: EpisodicREPS([0.0, 1.0], epsilon=0.5, temperature=1.0),
        lambda: SampleREPS.from_batch(batch, PolynomialFeatures(1), 0.5, gamma=0.9, temperature=1.0),
        lambda: REPSUpdate(fit=LinearGaussianPolicy(), epsilon=0.5, temperature=1.0),
    ):
        with pytest.raises(ValueError, match="exactly one of epsilon"):
            make()
    assert EpisodicREPS([0.0, 1.0]).epsilon == REPSUpdate(fit=LinearGaussianPolicy()).epsilon == 0.5
    assert EpisodicREPS([0.0, 1.0], temperature=1.0).epsilon is None


@pytest.mark.parametrize(("share", "as_they_are"), [(1.5e-4, True), (0.7e-4, False)])
def test_features_are_whitened_where_they_are_nearly_dependent(share, as_they_are):
    rng = np.random.default_rng(0)
    even = np.linalg.qr(rng.normal(size=(400, 2)))[0]
    problem = SampleREPS(even[:, 0] + rng.normal(size=400), even @ [[1, 1], [0, 2 * share]], 0.1)
    assert (problem.basis is None) == as_they_are
    assert solve(problem).status == Status.CERTIFIED
