"""Promises of fitted updates, what came of them, and warnings where there is nothing to promise."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

import envs
from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    SoftmaxPolicy,
    TabularPolicy,
)
from reps_opt import TRPO, Batch, EpisodicREPSUpdate, History, REPSUpdate, Status, improve, rollout
from reps_opt.learning.fits import fit_within, weighted_kl
from reps_opt.learning.records import promise_columns, refuted_in_a_row
from reps_opt.problems.value_features import value_features

ENV = envs.LQR()


class Coarse:
    """An update that fits nothing and promises ten, for counting what is made of it."""

    def __call__(self, policy, batch):
        stats = {"predicted_gain_error": 0.1, "base_objective": float(batch.rewards.mean())}
        return SimpleNamespace(policy=policy, accepted=True, solution=None, gain=10.0, kl=0.0, message="", stats=stats)

    def objective(self, batch):
        return float(batch.rewards.mean()), 0.1


@pytest.mark.parametrize("evaluate", [None, 5])
def test_a_run_whose_promises_are_refuted_says_so(evaluate):
    with pytest.warns(UserWarning, match="3 updates in a row gained less than half") as caught:
        history = History(improve(ENV, None, Coarse(), 5, n_episodes=5, seed=0, evaluate=evaluate))
    assert len(caught) == 1
    counts = list(history.to_frame()["refuted"])
    assert counts == ([1, 2, 3, 4, 5] if evaluate else [0, 1, 2, 3, 4])
    assert f"last {counts[-1]} promises were refuted" in history[-1].row()["message"]
    assert history[0].row()["message"] == ""


def test_promise_and_gain_stand_side_by_side():
    update = REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=ENV.gamma, epsilon=0.3)
    table = History(improve(ENV, None, update, 4, n_episodes=40, seed=0, evaluate=100)).to_frame()
    assert table["predicted_gain"].to_numpy() == pytest.approx(table["predicted"].to_numpy())
    assert (table["predicted_gain_error"] > 0).all()
    assert (table["gain_error"] > 0).all()
    first = table.iloc[0]
    assert first["gain"] == pytest.approx(first["reward"] - first["batch_reward"], abs=1e-9)
    assert abs(first["gain"] - first["predicted_gain"]) < 4 * (first["gain_error"] + first["predicted_gain_error"])
    assert (table["refuted"] == 0).all()
    without = History(improve(ENV, None, update, 3, n_episodes=40, seed=0)).to_frame()
    assert np.isfinite(without["gain"][:-1]).all()
    assert math.isnan(without["gain"].iloc[-1])


def test_what_counts_as_refuted():
    row = {"predicted_gain": 1.0, "predicted_gain_error": 0.1, "gain": 0.1, "gain_error": 0.1, "objective": math.nan}
    assert refuted_in_a_row(row, {"refuted": 4}, True) == 5
    assert refuted_in_a_row({**row, "gain": 0.3}, {"refuted": 4}, True) == 0  # within two standard errors of a half
    assert refuted_in_a_row({**row, "gain": math.nan}, {"refuted": 4}, True) == 4
    assert refuted_in_a_row({**row, "gain_error": math.nan}, {"refuted": 4}, True) == 4  # nobody knows how far off
    loss = {**row, "predicted_gain": -1.0, "gain": -1.1}
    assert refuted_in_a_row(loss, {"refuted": 4}, True) == 0  # a loss, as said
    assert refuted_in_a_row({**loss, "gain": -1.5}, {"refuted": 4}, True) == 5
    assert refuted_in_a_row(row, None, False) == 0


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("on_done", ["absorb", "restart"])
def test_rewards_that_are_all_the_same(on_done, terminated):
    rng = np.random.default_rng(0)
    states = rng.integers(3, size=60)
    ends = np.arange(60) % 6 == 5
    flags = {"terminated": ends & (rng.random(60) < 0.7)} if terminated else {}
    batch = Batch(states, rng.integers(2, size=60), np.ones(60), rng.integers(3, size=60), truncated=ends, **flags)
    update = REPSUpdate(fit=TabularPolicy(), features=None, gamma=0.9, on_done=on_done, ridge=1e-3)
    old = TabularPolicy.from_probabilities(np.full((3, 2), 0.5))
    if terminated and on_done == "absorb":
        result = update(old, batch)
        assert result.accepted
        assert result.gain > 0
        return
    with pytest.warns(UserWarning, match="absorb" if terminated else "nothing to learn"):
        result = update(old, batch)
    assert not result.accepted
    assert result.policy is old


def test_episodes_that_all_last_as_long_cannot_last_longer():
    """A reward of one a step until a fixed end: no policy can change what the task pays."""
    rng = np.random.default_rng(0)
    ends = np.arange(60) % 6 == 5
    batch = Batch(rng.normal(size=(60, 1)), rng.normal(size=60), np.ones(60), rng.normal(size=(60, 1)), terminated=ends)
    with pytest.warns(UserWarning, match="all rewards are the same, and every episode ends after 6 steps"):
        result = REPSUpdate(fit=LinearGaussianPolicy(), gamma=0.9)(None, batch)
    assert not result.accepted
    assert result.message.startswith("there is nothing to learn")


def test_equal_returns_teach_nothing():
    rng = np.random.default_rng(0)
    batch = Batch(rng.normal(size=(9, 1)), rng.normal(size=(9, 1)), np.ones(9), np.zeros((9, 1)), terminated=[True] * 9)
    with pytest.warns(UserWarning, match="nothing to learn"):
        assert not EpisodicREPSUpdate(fit=LinearGaussianPolicy())(None, batch).accepted


def test_features_too_coarse_are_a_warning():
    """States that stay what they are pay what they are: a constant feature promises better ones, which nobody gets."""
    rng = np.random.default_rng(0)
    states = np.repeat(rng.normal(size=(60, 1)), 10, axis=0)
    rewards = states[:, 0] + 0.1 * rng.normal(size=600)
    batch = Batch(states, rng.normal(size=600), rewards, states, truncated=np.arange(600) % 10 == 9)
    flat = FunctionTransformer(np.ones_like)
    with pytest.warns(UserWarning, match="far from any flow"):
        result = REPSUpdate(fit=LinearGaussianPolicy(), features=flat, gamma=0.9)(None, batch)
    assert result.stats["flow_residual"] > 3
    assert result.gain > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = REPSUpdate(fit=LinearGaussianPolicy(), gamma=0.9)(None, batch)
    assert chosen.stats["flow_residual"] < 2
    assert chosen.gain < 0.3


def test_a_fit_keeps_its_ball_where_the_policy_has_mixtures():
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(12, 8)), rng.normal(size=(12, 1))
    batch = Batch(states, actions, rng.normal(size=12), states)
    old = LinearGaussianPolicy(ridge=1.0).fit(rng.normal(size=(500, 8)), rng.normal(size=(500, 1)))
    weights = rng.random(12)
    loose = LinearGaussianPolicy(ridge=0.0).fit(states, actions, weights)
    assert weighted_kl(loose, old, states, weights) > 0.5
    fit = fit_within(LinearGaussianPolicy(ridge=0.0), old, batch, weights, 0.5)
    assert fit.kl <= 0.5 * (1 + 1e-6)
    assert 0 < fit.share < 1
    assert "mixed" in fit.note
    free = fit_within(LinearGaussianPolicy(ridge=0.0), old, batch, weights, None)
    assert free.share == 1
    assert free.note == ""


@pytest.mark.parametrize("kind", ["process", "softmax network", "network"])
def test_a_fit_keeps_its_ball_where_the_policy_has_none(kind):
    """Twelve samples of weight in eight dimensions: beside samples of the old policy the fit stays near it."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(12, 8))
    actions = (rng.random(12) < 0.5).astype(int) if kind == "softmax network" else 3 + 3 * rng.normal(size=12)
    batch = Batch(states, actions, rng.normal(size=12), states)
    prototype = {
        "process": GaussianProcessPolicy(random_state=0, max_iter=10),
        "network": NeuralPolicy(hidden=(4,), max_iter=20, random_state=0),
        "softmax network": NeuralCategoricalPolicy(hidden=(4,), max_iter=20, random_state=0, n_actions=2),
    }[kind]
    many = rng.normal(size=(200, 8))
    old = clone(prototype).fit(
        many, (many[:, 0] > 0).astype(int) if kind == "softmax network" else rng.normal(size=200)
    )
    weights = np.append(rng.random(11), 0.0)
    epsilon = 0.6 * weighted_kl(clone(prototype).fit(states, actions, weights), old, states, weights)
    fit = fit_within(clone(prototype), old, batch, weights, epsilon)
    assert fit.kl <= epsilon
    assert fit.kl == weighted_kl(fit.policy, old, states, weights)
    assert 0 < fit.share < 1
    assert "fitted beside samples of it" in fit.note


def test_divergences_ignore_states_without_weight():
    old = TabularPolicy.from_probabilities([[0.5, 0.5], [1.0, 0.0]])
    new = TabularPolicy.from_probabilities([[0.5, 0.5], [0.0, 1.0]])
    assert weighted_kl(new, old, np.array([0, 1]), np.array([1.0, 0.0])) == 0


def test_value_features_by_kind_of_state():
    rng = np.random.default_rng(0)

    def batch(states):
        ends = np.arange(len(states)) % 10 == 9
        return Batch(states, rng.integers(2, size=len(states)), rng.normal(size=len(states)), states, truncated=ends)

    grid = rng.integers(7, size=200)
    counted = value_features(batch(grid))
    assert counted.kind == "indicators"
    assert (counted.transform(grid).sum(axis=1) == 1).all()
    assert counted.transform([99]).sum() == 0
    known = value_features(batch(np.eye(5)[rng.integers(5, size=200)]))
    assert (known.kind, known.n_features) == ("states as they are", 5)
    images = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 400)) + 0.01 * rng.normal(size=(200, 400))
    pixels = value_features(batch(images))
    assert pixels.transform(images).shape == (200, pixels.n_features)
    plain = value_features(batch(1e3 + 1e-3 * rng.normal(size=(200, 3))))
    assert plain.trials[plain.width] == min(plain.trials.values())
    assert plain.ridge > 0


def test_angles_are_told_from_what_has_their_range():
    """An angle's values meet at half a turn; a column of the same range that moves anywhere is none."""
    rng = np.random.default_rng(0)
    turn = np.cumsum(0.3 * rng.normal(size=(2_001, 1)), axis=0)
    angle = (turn + np.pi) % (2 * np.pi) - np.pi
    other = rng.uniform(-np.pi, np.pi, size=(2_001, 2))
    other[:, 1] *= 0.1
    states = np.hstack([other[:, :1], angle, other[:, 1:]])
    ends = np.arange(2_000) % 20 == 19
    batch = Batch(states[:-1], rng.normal(size=2_000), np.cos(angle[:-1, 0]), states[1:], truncated=ends)
    chosen = value_features(batch, gamma=0.9)
    assert chosen.angles == (1,)
    assert "columns 1 as angles" in str(chosen)
    across = np.zeros((2, 3))
    across[:, 1] = np.pi, -np.pi
    np.testing.assert_allclose(*chosen.transform(across), atol=1e-12)
    given = states.copy()
    chosen.transform(given)
    assert np.array_equal(given, states)
    pendulum = rollout("Pendulum-v1", n_episodes=3, seed=0)
    assert value_features(pendulum).angles == ()  # it shows sine and cosine itself


def test_the_width_follows_the_value():
    """Rewards that wiggle fast want narrow waves, rewards linear in the state wide ones or quadratics."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-3, 3, size=(1_500, 1))
    ends = np.arange(1_500) % 30 == 29

    def chosen(rewards):
        batch = Batch(states, rng.normal(size=1_500), rewards, rng.permutation(states), truncated=ends)
        return value_features(batch, gamma=0.9)

    fast, slow = chosen(np.sin(9 * states[:, 0])), chosen(states[:, 0])
    assert fast.width < slow.width


def test_cartpole_is_learnt_from_defaults():
    """Absorption gives a reward of one a step something to gain."""
    update = REPSUpdate(fit=SoftmaxPolicy())
    history = History(improve("CartPole-v1", None, update, 3, n_steps=1_000, seed=0, evaluate=10))
    assert history.returns[-1] > 2 * history.returns[0]
    restart = REPSUpdate(fit=SoftmaxPolicy(), on_done="restart", gamma=0.99)
    with pytest.warns(UserWarning, match="absorb"):
        assert not restart(None, rollout("CartPole-v1", n_steps=200, seed=0)).accepted


def test_an_identity_map_will_do_for_features():
    batch = rollout(ENV, n_episodes=10, seed=0)
    result = REPSUpdate(fit=LinearGaussianPolicy(), features=FunctionTransformer(), gamma=ENV.gamma)(None, batch)
    assert result.accepted
    assert result.stats["gamma"] == ENV.gamma


@pytest.mark.parametrize("gamma", [None, 0.9])
def test_an_unknown_end_is_refused_before_the_first_roll_out(gamma):
    with pytest.raises(ValueError, match="on_done must be one of"):
        REPSUpdate(fit=TabularPolicy(), on_done="stop", gamma=gamma)


def test_a_reference_that_is_no_flow_is_a_warning_that_says_what_to_change():
    """Pendulum cut after ten steps: at a horizon of a hundred, what follows is missing from the flow of its starts."""
    batch = rollout("Pendulum-v1", n_episodes=100, max_steps=10, seed=0)
    told = REPSUpdate(fit=LinearGaussianPolicy(), starts="episodes", gamma=0.99)
    with pytest.warns(
        UserWarning, match='no flow: take starts="visited", a smaller ridge, or the gamma of the restarts'
    ):
        result = told(None, batch)
    assert "no flow" in result.message
    assert abs(result.solution.flow_offset) > 3 * result.solution.flow_offset_error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert REPSUpdate(fit=LinearGaussianPolicy())(None, batch).accepted  # the default is right without a word


@pytest.mark.parametrize("many", [True, False])
def test_a_match_that_cannot_be_is_a_warning_the_first_time(many):
    from sklearn.kernel_approximation import RBFSampler

    features = RBFSampler(n_components=300, random_state=0) if many else PolynomialFeatures(3)
    update = REPSUpdate(
        fit=LinearGaussianPolicy(), features=features, epsilon=1e-4, ridge=0.0, starts="episodes", gamma=0.99
    )
    remedy = "take more samples, fewer features, (or a ridge|a ridge, or a larger epsilon)"
    runs = improve("Pendulum-v1", None, update, 2, n_episodes=1 if many else 3, seed=0)
    with pytest.warns(UserWarning, match=f"not taken, and none will be until this changes: infeasible: .*{remedy}"):
        record = next(runs)
    assert not record.update.accepted
    assert "infeasible" in record.row()["message"]


def test_roll_outs_judge_a_promise_by_its_own_rule():
    """A batch without terminations counts visits evenly; the promise before it, of one with some, did not."""
    update, batch = TRPO(), rollout("Pendulum-v1", n_episodes=4, seed=0)
    stats = {"gamma": 0.99, "starts": "visited", "base_objective": -5.0, "predicted_gain": 0.1}
    result = SimpleNamespace(accepted=True, gain=0.2, stats=stats)
    before = {"gamma": 0.9, "starts": "episodes", "base_objective": -6.0}
    row = promise_columns(update, result, batch, batch, before)
    told = row["objective"], row["objective_error"]
    assert told == pytest.approx(update.objective(batch, 0.9, "episodes"))
    assert row["gain"] == pytest.approx(update.objective(batch, 0.99, "visited")[0] + 5.0)
    assert abs(row["gain"] - 5.0 - row["objective"]) > 0.1  # the rules differ
    idle = SimpleNamespace(accepted=False, gain=0.0, stats={})
    assert promise_columns(update, idle, None, batch, before)["objective"] == told[0]
    assert math.isnan(promise_columns(update, idle, None, batch, {"base_objective": math.nan})["objective"])


@pytest.mark.filterwarnings("ignore:an update was not taken:UserWarning")
@pytest.mark.parametrize(("missed", "accepted"), [(0.008, True), (0.015, False)])
def test_weights_that_miss_a_hundredth_of_their_features_are_no_basis_for_an_update(missed, accepted):
    class Rough(REPSUpdate):
        def _solve(self, problem):
            solution = super()._solve(problem)
            found = replace(solution.certificate, flow=missed)
            return replace(solution, status=Status.UNCERTIFIED, certificate=found)

    batch = rollout(ENV, LinearGaussianPolicy.from_env(ENV), n_episodes=5, max_steps=20, seed=0)
    result = Rough(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=0.9)(None, batch)
    assert result.accepted == accepted


@pytest.mark.filterwarnings("ignore:the weights are far from any flow:UserWarning")
def test_a_ball_that_hardly_binds_leaves_the_weights_on_dozens_of_samples():
    """A reward with a smooth top: what a temperature of a thousandth of its spread takes of a thousand states."""
    rng = np.random.default_rng(0)
    states, ends = rng.normal(size=(1000, 1)), np.arange(1000) % 10 == 9
    batch = Batch(states, rng.normal(size=1000), -(states[:, 0] ** 2), rng.normal(size=(1000, 1)), truncated=ends)
    update = REPSUpdate(fit=LinearGaussianPolicy(), gamma=0.9, epsilon=6.9, features=FunctionTransformer(), ridge=1e-3)
    assert update(None, batch).solution.ess > 32


def test_only_the_weights_that_are_taken_are_warned_of():
    """Whether the ball is slack is asked at a small eta, at which hardly a sample counts; those taken are hundreds."""
    batch = rollout("Pendulum-v1", n_episodes=10, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = REPSUpdate(fit=LinearGaussianPolicy(), starts="episodes", gamma=0.999)(None, batch)
    assert result.stats["ess"] > 300
    loose = REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(1), ridge=1.0, epsilon=20.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        taken = loose(None, batch)
    said = [str(warning.message) for warning in caught if "of 2000" in str(warning.message)]
    assert said == ["the effective sample size is 1.00 of 2000: take a smaller epsilon or more samples"]
    assert taken.stats["ess"] < 2
