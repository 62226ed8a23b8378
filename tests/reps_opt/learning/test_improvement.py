"""The improvement loop: every update through it, reuse of samples, evaluation, stopping, and what it reports."""

from __future__ import annotations

import gc
import math
import tracemalloc
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

import envs
from policies import GaussianProcessPolicy, LinearGaussianPolicy, SoftmaxPolicy, TabularPolicy
from reps_opt import (
    ENAC,
    REPS,
    TRPO,
    EpisodicREPSUpdate,
    History,
    NaturalGradient,
    NoImprovement,
    ParameterSearch,
    REPSUpdate,
    RewardWeightedRegression,
    SampleREPS,
    Status,
    VanillaGradient,
    importance_weights,
    improve,
    rollout,
    solve,
)
from reps_opt.features import EmpiricalModel
from reps_opt.learning.gradients import enac
from reps_opt.learning.runs import start_policy

ENV = envs.LQR(horizon=20)


def linear(std: float = 0.3) -> LinearGaussianPolicy:
    policy = LinearGaussianPolicy(ridge=0.0).fit(np.eye(6, 3), np.eye(6, 3)[::-1])
    return policy.with_params(np.r_[np.zeros(12), np.full(3, np.log(std))])


UPDATES = {
    "reps": REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=ENV.gamma, epsilon=0.3),
    "rwr": RewardWeightedRegression(fit=LinearGaussianPolicy(), gamma=ENV.gamma, epsilon=0.3),
    "awr": RewardWeightedRegression(fit=LinearGaussianPolicy(), gamma=ENV.gamma, epsilon=0.3, advantages=True),
    "trpo": TRPO(gamma=ENV.gamma, epsilon=0.1),
    "npg": NaturalGradient(gamma=ENV.gamma, epsilon=0.1),
    "enac": ENAC(gamma=ENV.gamma, epsilon=0.05),
    "vanilla": VanillaGradient(gamma=ENV.gamma, length=0.1),
}


@pytest.mark.parametrize("name", UPDATES)
def test_every_update_improves(name: str) -> None:
    history = History(improve(ENV, linear(), UPDATES[name], 8, n_episodes=30, seed=0, evaluate=50))
    table = history.to_frame()
    assert history.returns[-1] > history.returns[0] + 0.5
    assert table["accepted"].all()
    assert table["gap"].max() < 1e-6
    np.testing.assert_array_equal(table["steps"], 600 * np.arange(1, 9))
    np.testing.assert_array_equal(table["episodes"], 30 * np.arange(1, 9))
    np.testing.assert_array_equal(history.returns[1:-1], table["old_return"][1:])
    assert np.all(table["kl"] > 0)
    if name in ("reps", "rwr", "awr"):
        np.testing.assert_allclose(table["kl_predicted"], 0.3, atol=1e-7)
        assert np.all(table["ess"] < 600)
    assert "8 updates" in str(history)
    assert len(history.plot().axes) >= 4
    assert history.to_xarray()["return"].shape == (8,)


def test_reps_from_samples_of_a_finite_mdp_takes_the_exact_step() -> None:
    """Many samples, an empirical model and a table: the loop's step is the exact REPS step, in policy and return."""
    mdp = envs.single_chain(gamma=0.9)
    env = envs.TabularEnv(mdp, reset_probability=0.1)
    update = REPSUpdate(
        fit=TabularPolicy(n_states=5, n_actions=2),
        features=OneHot(5),
        gamma=0.9,
        epsilon=0.5,
        embedding=EmpiricalModel(),
    )
    (record,) = improve(env, TabularPolicy.from_probabilities(mdp.uniform_policy()), update, 1, n_steps=40_000, seed=0)
    exact = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.5))
    np.testing.assert_allclose(record.policy.probabilities_, exact.policy, atol=0.03)
    assert record.values["eta"] == pytest.approx(exact.eta, rel=0.05)
    assert record.values["predicted"] == pytest.approx(
        exact.objective - np.sum(exact.problem.reference * mdp.rewards), rel=0.05
    )


def test_enac_steps_along_its_regression() -> None:
    """The step is the regression's natural gradient, as long as the ball allows."""
    policy = linear()
    batch = rollout(ENV, policy, n_episodes=40, seed=0)
    solution = ENAC(gamma=ENV.gamma, epsilon=0.05)(policy, batch).solution
    flags = batch.terminated, batch.truncated
    w = enac(policy.score_function(batch.states, batch.actions), batch.rewards, *flags, ENV.gamma, 1e-6, True)
    assert w @ solution.step == pytest.approx(np.linalg.norm(w) * np.linalg.norm(solution.step), rel=1e-9)
    assert solution.certificate.ok(1e-8)
    flat = ENAC()(policy, replace(batch, rewards=np.zeros(len(batch))))
    assert not flat.accepted
    assert flat.policy is policy


class OneHot(FunctionTransformer):
    """States 0 ... n - 1 as unit vectors."""

    def __init__(self, n: int = 1) -> None:
        super().__init__(lambda states: np.eye(n)[np.asarray(states, dtype=int).ravel()])
        self.n = n


def test_a_run_is_a_function_of_its_seed() -> None:
    def run(seed, n_jobs=None):
        return History(improve(ENV, linear(), UPDATES["rwr"], 2, n_episodes=300, seed=seed, evaluate=5, n_jobs=n_jobs))

    one = run(1)
    assert np.array_equal(one.returns, run(1).returns)
    assert np.array_equal(one.returns, run(1, n_jobs=2).returns)
    assert not np.array_equal(one.returns, run(2).returns)
    assert np.array_equal(one.policy.params, run(np.random.SeedSequence(1)).policy.params)


def test_the_latest_episodes_are_kept() -> None:
    seen: list[int] = []

    def update(policy, batch):
        seen.append(batch.n_episodes)
        return UPDATES["reps"](policy, batch)

    records = list(improve(ENV, linear(), update, 4, n_episodes=10, first=30, keep=30, seed=0))
    assert seen == [30, 30, 30, 30]
    own = rollout(ENV, records[2].policy, n_episodes=10, seed=np.random.SeedSequence(0, spawn_key=(0, 4)))
    np.testing.assert_array_equal(records[3].batch.rewards[-200:], own.rewards)  # the newest come last
    np.testing.assert_array_equal(records[3].batch.rewards[:400], records[2].batch.rewards[200:])
    seen.clear()
    list(improve(ENV, linear(), update, 4, n_episodes=10, keep=25, seed=0))
    assert seen == [10, 20, 25, 25]


def test_a_batch_to_begin_with(tmp_path) -> None:
    """Logged transitions are the first iteration's; a checkpoint goes on from them."""
    logged = rollout(ENV, None, n_episodes=12, seed=5)
    options = {"n_episodes": 4, "first": logged, "keep": 16, "seed": 0, "checkpoint": tmp_path / "run"}
    one, two = improve(ENV, linear(), UPDATES["reps"], 2, **options)
    np.testing.assert_array_equal(one.batch.rewards, logged.rewards)
    np.testing.assert_array_equal(two.batch.rewards[: len(logged)], logged.rewards)
    assert [one.values["episodes"], two.values["episodes"]] == [12, 16]
    with pytest.raises(ValueError, match=r"another run: its first\.n_episodes is None, here it is 12"):
        next(improve(ENV, linear(), UPDATES["reps"], 2, **(options | {"first": 12})))


def test_importance_weights_make_old_samples_stand_for_the_new_policy() -> None:
    """The mean reward of a new policy, estimated from another one's samples of the same states."""
    bandit = ParameterSearch(lambda a, c, rng: -((a[:, 0] - 1.0) ** 2), n_params=1)
    old, new = (linear_1d(mean, std) for mean, std in ((0.0, 1.0), (0.4, 0.7)))
    pool = [
        (old, rollout(bandit, old, n_episodes=40_000, seed=1)),
        (new, rollout(bandit, new, n_episodes=10_000, seed=2)),
    ]
    weights = importance_weights(new, pool)
    rewards = np.concatenate([batch.rewards for _, batch in pool])
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() <= 5.0 * weights.mean() * 1.05  # the new policy's own share is a fifth
    assert weights @ rewards / weights.sum() == pytest.approx(-(0.6**2 + 0.7**2), abs=0.02)
    with pytest.raises(TypeError, match="needs policies with log_prob, got NoneType"):
        importance_weights(new, [(None, pool[0][1])])


def linear_1d(mean: float, std: float) -> LinearGaussianPolicy:
    policy = LinearGaussianPolicy().fit(np.zeros((4, 1)), np.arange(4.0)[:, None])
    return policy.with_params(np.array([0.0, mean, np.log(std)]))


def test_reuse_by_importance_runs_in_the_loop() -> None:
    options = {"n_episodes": 10, "keep": 40, "seed": 0, "evaluate": 50}
    by = {
        reuse: History(improve(ENV, linear(), UPDATES["reps"], 8, reuse=reuse, **options))
        for reuse in ("pool", "importance")
    }
    assert all(history.returns[-1] > history.returns[0] + 0.5 for history in by.values())
    assert not np.array_equal(by["pool"].returns, by["importance"].returns)
    with pytest.raises(TypeError, match="takes base_weights"):
        improve(ENV, linear(), UPDATES["trpo"], 1, reuse="importance", n_episodes=1)


def test_episodic_reps_with_contexts_finds_the_parameters_of_every_context() -> None:
    """The best parameter is twice the context; without the context's features the weights prefer easy contexts."""
    task = ParameterSearch(
        lambda a, c, rng: -np.sum((a - 2 * c) ** 2, axis=1) - 5 * c[:, 0], 1, lambda n, rng: rng.uniform(0, 1, (n, 1))
    )
    start = linear_1d(0.0, 1.0)
    update = EpisodicREPSUpdate(
        fit=LinearGaussianPolicy(), contexts=PolynomialFeatures(2, include_bias=False), epsilon=0.7
    )
    history = History(improve(task, start, update, 15, n_episodes=100, seed=0, evaluate=1000))
    mean = history.policy.predict(np.array([[0.1], [0.9]])).ravel()
    np.testing.assert_allclose(mean, [0.2, 1.8], atol=0.05)
    drift = {}
    for contexts in (None, PolynomialFeatures(2, include_bias=False)):
        problem = EpisodicREPSUpdate(fit=LinearGaussianPolicy(), contexts=contexts, epsilon=0.7)
        (record,) = improve(task, start, problem, 1, n_episodes=300, seed=0)
        drift[contexts is None] = abs(
            record.update.solution.weights("sum") @ record.batch.states[:, 0] - record.batch.states.mean()
        )
    assert drift[False] < 1e-9 < 0.05 < drift[True]


def test_parameters_of_a_controller_are_an_episode_s_one_decision() -> None:
    def gains(K, x):
        return np.einsum("nij,nj->ni", K.reshape(-1, 3, 3), x)

    task = ParameterSearch.of_controller(ENV, gains, 9, gamma=ENV.gamma)
    K = np.random.default_rng(0).normal(size=9) * 0.1
    batch = rollout(task, lambda state, rng: K, n_episodes=3, seed=0)
    states, total = ENV.sample_starts(3, np.random.default_rng(0)), np.zeros(3)
    for t in range(ENV.horizon):
        moved = ENV.step_batch(states, gains(np.tile(K, (3, 1)), states), np.random.default_rng(0))
        states, total = moved.next_states, total + ENV.gamma**t * moved.rewards
    np.testing.assert_allclose(batch.rewards, total, rtol=1e-12)
    single = ParameterSearch.of_controller("CartPole-v1", lambda p, x: (np.einsum("np,np->n", p, x) > 0).astype(int), 4)
    good, bad = (
        rollout(single, lambda s, rng, p=p: np.array(p), n_episodes=3, seed=0).rewards
        for p in ([0.1, 0.5, 1, 1], [0, 0, -1, 0.0])
    )
    assert good.min() > 150 > 15 > bad.max()


def test_stopping_and_callbacks() -> None:
    seen = []
    records = list(
        improve(
            ENV,
            linear(1e-4),
            UPDATES["rwr"],
            30,
            n_episodes=5,
            seed=0,
            evaluate=5,
            callbacks=seen.append,
            stop=NoImprovement(3, 1e-2),
        )
    )
    assert len(records) < 30
    assert records[-1].values["stopped"].startswith("no return above")
    assert all(not record.values["stopped"] for record in records[:-1])
    assert [record.index for record in seen] == list(range(1, len(records) + 1))
    best_before = max([records[0].old_return, *(r.new_return for r in records[:-3])])
    assert max(r.new_return for r in records[-3:]) <= best_before + 1e-2
    long = improve(ENV, linear(), UPDATES["reps"], 10**9, n_episodes=2, seed=0, callbacks=[seen.append])
    next(long)
    long.close()


def test_a_failed_update_leaves_the_policy_and_says_so() -> None:
    """Two distant contexts cannot be matched by one: infeasible, and the loop goes on with what it has."""
    settings = {"features": PolynomialFeatures(3), "gamma": ENV.gamma, "starts": "episodes", "epsilon": 1e-9}
    update = REPSUpdate(fit=LinearGaussianPolicy(), **settings)
    start = linear()
    with pytest.warns(UserWarning, match="not taken"):
        history = History(improve(ENV, start, update, 2, n_episodes=3, seed=0, evaluate=3))
    assert history.policy is start
    table = history.to_frame()
    assert not table["accepted"].any()
    assert (table["status"] == "infeasible").all()
    assert table["message"].str.contains("epsilon").all()
    assert history.returns[0] == history.returns[-1]


def test_warm_start_takes_the_last_kernel() -> None:
    prototype = GaussianProcessPolicy(max_iter=5)
    update = REPSUpdate(fit=prototype, features=PolynomialFeatures(2), gamma=ENV.gamma, warm_start=True)
    first, second = improve(ENV, None, update, 2, n_episodes=6, seed=0)
    assert prototype.kernel is None
    np.testing.assert_allclose(second.policy.kernel.theta, first.policy.kernel_.theta)
    assert second.policy.noise == first.policy.noise_
    assert second.policy.random_state == 0


def test_a_ball_that_binds_costs_no_search_for_its_slack_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ridge that limit is a quadratic program over all samples: a minute where the update takes a second."""
    env = envs.LQR()
    batch = rollout(env, n_episodes=40, seed=0)
    update = REPSUpdate(fit=LinearGaussianPolicy(), features=PolynomialFeatures(2), gamma=env.gamma, ridge=1e-3)
    at = {"gamma": env.gamma, "ridge": 1e-3}
    cold = SampleREPS.from_batch(batch, PolynomialFeatures(2), **at, temperature=3e-3 * float(np.std(batch.rewards)))
    edge = solve(cold).kl
    expected = solve(SampleREPS.from_batch(batch, PolynomialFeatures(2), edge, **at))

    def refuse(*arguments: object) -> None:
        raise AssertionError("the slack limit was looked for")

    monkeypatch.setattr("reps_opt.problems.sample_problem.best_weights", refuse)
    found = replace(update, epsilon=edge)(None, batch).solution
    assert found.status is Status.CERTIFIED
    assert found.eta == pytest.approx(expected.eta, rel=1e-5)
    assert found.kl == pytest.approx(edge, rel=1e-6)


def test_memory_is_flat_over_a_long_run() -> None:
    """Between the 10th and the 40th iteration nothing grows but the numbers of their rows."""
    run = improve(ENV, linear(), UPDATES["rwr"], 40, n_episodes=10, keep=20, seed=0)
    tracemalloc.start()
    used = []
    for index, record in enumerate(run, start=1):
        del record
        if index in (10, 40):
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert used[1] - used[0] < 150_000  # bytes: thirty batches of ten episodes would be half a million


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_episodes": None}, ValueError, "one of n_episodes and n_steps"),
        ({"n_steps": 5}, ValueError, "one of n_episodes and n_steps"),
        ({"n_episodes": 0}, ValueError, "n_episodes must be >= 1"),
        ({"first": 0}, ValueError, "first must be >= 1"),
        ({"keep": 1.5}, TypeError, "keep must be an integer"),
        ({"evaluate": 0}, ValueError, "evaluate must be >= 1"),
        ({"reuse": "all"}, ValueError, "reuse must be one of"),
        ({"update": 3}, TypeError, "update must be callable"),
        ({"update": TRPO}, TypeError, "update must be callable"),
        ({"policy": 3}, TypeError, "policy must have sample"),
        ({"n_iterations": 0}, ValueError, "n_iterations must be >= 1"),
    ],
    ids=str,
)
def test_bad_input_is_named_at_the_call(arguments, error, message: str) -> None:
    good = {"env": ENV, "policy": linear(), "update": UPDATES["reps"], "n_iterations": 1, "n_episodes": 1}
    with pytest.raises(error, match=message):
        improve(**(good | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epsilon": -1.0}, ValueError, "epsilon must be >= 0"),
        ({"fit": LinearGaussianPolicy}, TypeError, "fit must be a policy"),
        ({"scale": "max"}, ValueError, "scale must be one of"),
        ({"temperature": 0.0}, ValueError, "temperature must be > 0"),
    ],
    ids=str,
)
def test_bad_settings_of_an_update_are_named(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        RewardWeightedRegression(**({"fit": LinearGaussianPolicy()} | arguments))


def test_episodic_update_wants_one_transition_an_episode() -> None:
    with pytest.raises(ValueError, match="one transition an episode"):
        EpisodicREPSUpdate(fit=LinearGaussianPolicy())(None, rollout(ENV, None, n_episodes=2, seed=0))


def test_an_update_may_return_just_a_policy() -> None:
    def refit(policy, batch):
        return LinearGaussianPolicy().fit(batch.states, batch.actions)

    one, two = improve(ENV, None, refit, 2, n_episodes=5, seed=0, evaluate=5)
    assert two.values["accepted"]
    assert two.values["status"] == "none"
    assert two.values["old_return"] == one.values["return"]
    with pytest.raises(TypeError, match="update returned None"):
        next(improve(ENV, None, lambda policy, batch: None, 1, n_episodes=5))


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", ENV], ids=str)
def test_gradient_updates_start_by_themselves(env) -> None:
    run = list(improve(env, None, TRPO(), 2, n_steps=300, seed=0))
    assert [record.values["steps"] for record in run] == [300, 600]
    assert all(record.values["kl_old_new"] <= 0.01 for record in run)
    assert any(record.values["accepted"] for record in run) or env == "FrozenLake-v1"  # whose goal may stay unseen


def test_a_start_policy_scaled_by_the_first_batch_acts_as_the_one_that_made_it() -> None:
    seen = []
    list(improve("Pendulum-v1", None, Seen(seen), 1, n_steps=200, seed=0))
    policy, batch = seen[0]
    np.testing.assert_allclose(policy.centre_, batch.states.mean(axis=0), atol=1e-12)
    made = start_policy("Pendulum-v1", np.random.SeedSequence(0))
    assert policy.kl_divergence(made, batch.states).max() == 0


def test_hidden_units_are_spread_wider_where_falls_end_the_first_roll_outs() -> None:
    seen = []
    list(improve("CartPole-v1", None, Seen(seen), 1, n_steps=300, seed=0))
    policy, batch = seen[0]
    assert batch.terminated.sum() >= batch.n_episodes - 1
    assert _change(policy, batch.states, 8, 16) > 0.05
    assert _change(policy, batch.states, 0, 1) > 0.05


def _change(policy, states, near, far) -> float:
    """Of the last hidden units, their scores over the bias's, from so many deviations off the middle to so many."""
    units = []
    for times in (near, far):
        moved = states.mean(axis=0) + times * states.std(axis=0) * np.sign(states - states.mean(axis=0))
        scores = policy.score_function(moved, np.ones(len(moved)))[:, -130:]
        units.append(scores[:, :128:2] / scores[:, 128:129])
    return float(np.abs(units[1] - units[0]).mean())


class Seen:
    """Remembers what it was given, and changes nothing."""

    needs_policy = True

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, policy, batch):
        self.seen.append((policy, batch))
        return policy


def test_no_policy_to_start_from_is_said() -> None:
    class Buttons(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.MultiBinary(3)

    with pytest.raises(TypeError, match=r"env Buttons acts in MultiBinary\(3\): no policy to start from"):
        improve(Buttons(), None, TRPO(), 1, n_steps=10)


def test_a_value_network_goes_on_learning() -> None:
    """What the update remembers grows with every batch, and a run by hand is the run of the loop."""
    records = list(improve("Pendulum-v1", None, TRPO(gamma=0.9), 3, n_steps=400, seed=0))
    counts = [float(record.update.memory["values.count"]) for record in records]
    assert counts == [400, 800, 1200]
    assert float(records[-1].update.memory["observations.count"]) == 1200
    by_hand = TRPO(gamma=0.9)(records[1].policy, records[2].batch, records[1].update.memory)
    np.testing.assert_array_equal(by_hand.policy.params, records[2].policy.params)
    assert TRPO(gamma=0.9)(records[1].policy, records[2].batch).memory is None


def test_stopping_rules_need_evaluations() -> None:
    with pytest.raises(ValueError, match="stop=NoImprovement"):
        improve(ENV, None, UPDATES["reps"], 3, n_episodes=5, stop=NoImprovement(2))
    blind = improve(ENV, linear(), UPDATES["reps"], 3, n_episodes=5, stop=lambda history: history.returns[-1] > 0)
    with pytest.raises(ValueError, match="stop looks at the returns of evaluations, and there are none"):
        list(blind)
    seeing = improve(ENV, linear(), UPDATES["reps"], 3, n_episodes=5, stop=lambda history: len(history) == 1)
    assert len(list(seeing)) == 1


def test_the_best_policy_is_kept_by_its_own_roll_outs() -> None:
    """Without evaluation a return is that of the next iteration's roll-outs, and the last one is not known."""
    history = History(improve(ENV, linear(), UPDATES["rwr"], 6, n_episodes=4, seed=0))
    own = [
        float(rollout(ENV, r.policy, 4, seed=np.random.SeedSequence(0, spawn_key=(0, r.index + 1))).returns.mean())
        for r in history[:-1]
    ]
    np.testing.assert_allclose(history.returns[1:-1], own)
    assert np.isnan(history.returns[-1])
    assert history.best is history[int(np.argmax(own))]
    assert f"to {own[-1]:.6g}" in str(history)


def test_the_best_policy_is_kept_by_evaluations_where_there_are_any() -> None:
    history = History(improve(ENV, linear(), UPDATES["rwr"], 6, n_episodes=4, seed=0, evaluate=3))
    returns = [record.values["return"] for record in history]
    assert history.best is history[int(np.argmax(returns))]
    assert history.best.new_return == max(history.returns[1:])


class Told(NamedTuple):
    """An entry of a history whose returns are given."""

    old_return: float
    new_return: float
    policy: Any = None


@pytest.mark.parametrize(
    ("returns", "index"),
    [
        ([0.0, 2.0, 1.0], 1),
        ([9.0, 2.0, 2.0], 2),
        ([0.0, math.nan, -1.0, math.nan], 2),
        ([0.0, math.nan, math.nan], 2),
        ([0.0, math.nan], 1),
    ],
    ids=str,
)
def test_the_best_of_ties_is_the_latest_and_the_unknown_is_last(returns, index: int) -> None:
    entries = [Told(math.nan if i else returns[0], after) for i, after in enumerate(returns[1:])]
    assert History(entries).best is entries[index - 1]
    with pytest.raises(ValueError, match="no entries"):
        _ = History().best


def test_an_episode_that_a_number_of_steps_cuts_has_no_return_yet() -> None:
    """Half-way through its last episode a policy whose episodes all last 20 steps has the return of the whole ones."""
    record = next(improve(ENV, linear(), UPDATES["rwr"], 1, n_steps=50, seed=0))
    assert record.values["batch_return"] == pytest.approx(record.batch.returns[:2].mean(), rel=1e-12)
    assert record.values["batch_reward"] == pytest.approx(record.batch.rewards.mean(), rel=1e-12)
    whole = next(improve(ENV, linear(), UPDATES["rwr"], 1, n_steps=60, seed=0))
    assert whole.values["batch_return"] == pytest.approx(whole.batch.returns.mean(), rel=1e-12)
    short = next(improve(ENV, linear(), UPDATES["rwr"], 1, n_steps=10, seed=0))
    assert short.values["batch_return"] == pytest.approx(short.batch.rewards.sum(), rel=1e-12)


def test_evaluations_may_leave_exploration_out() -> None:
    """The evaluation is of the mean action, on its own seeds; promises are judged by roll-outs that explore."""
    options = {"n_episodes": 20, "seed": 0, "evaluate": 10}
    steady, exploring = (
        History(improve(ENV, linear(), UPDATES["reps"], 3, **options, deterministic=alone)) for alone in (True, False)
    )
    np.testing.assert_array_equal(steady.policy.params, exploring.policy.params)
    seed = np.random.SeedSequence(0, spawn_key=(1,))
    for record in steady:
        alone = rollout(ENV, record.policy, 10, seed=seed, deterministic=True).returns.mean()
        assert record.values["return"] == pytest.approx(alone, rel=1e-12)
    assert (steady.returns[1:] > exploring.returns[1:]).all()
    table = steady.to_frame()
    np.testing.assert_allclose(table["gain"][:-1], table["objective"][1:] - table["base_objective"].to_numpy()[:-1])
    assert math.isnan(table["gain"].iloc[-1])
    with pytest.raises(ValueError, match="deterministic=True is how evaluations act, and there are none"):
        improve(ENV, None, UPDATES["reps"], 1, n_episodes=1, deterministic=True)


def test_reached_gains_stand_beside_predicted_ones() -> None:
    row = next(improve(ENV, linear(), UPDATES["reps"], 1, n_episodes=20, seed=0, evaluate=20)).values
    assert row["gain"] == pytest.approx(row["reward"] - row["batch_reward"])  # over the samples of the promise
    assert row["predicted_gain"] > 0
    row = next(improve(ENV, linear(), UPDATES["trpo"], 1, n_episodes=20, seed=0, evaluate=20)).values
    assert row["gain"] == pytest.approx(row["reward"] - row["batch_reward"])  # a gradient step's promise has the unit
    assert row["predicted_gain"] > 0


class Bell(gymnasium.Env):
    """Four pulls in a row ring a bell that pays; nothing else does."""

    observation_space = gymnasium.spaces.Box(-50.0, 50.0, (1,))
    action_space = gymnasium.spaces.Discrete(8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.run, self.left = 0, 12
        return np.zeros(1), {}

    def step(self, action):
        self.run, self.left = (self.run + 1 if action == 0 else 0), self.left - 1
        rings = self.run == 4
        return np.array([float(self.run)]), float(rings), rings, self.left == 0, {}


def test_uniform_actions_that_teach_nothing_are_held_for_longer() -> None:
    update = REPSUpdate(fit=SoftmaxPolicy(n_actions=8), gamma=0.9)
    with pytest.warns(UserWarning, match="nothing to learn"):
        records = list(improve(Bell(), None, update, 5, n_episodes=8, seed=0))
    idle = [record for record in records if not record.update.accepted]
    assert 0 < len(idle) < 5
    for i, record in enumerate(idle):
        assert f"the next uniform actions are held for {2 ** (i + 1)} steps each" in record.values["message"]
        held = 2**i
        last = record.batch.time // held * held
        starts = np.flatnonzero(record.batch.time == 0)[np.cumsum(record.batch.time == 0) - 1]
        assert np.array_equal(record.batch.actions, record.batch.actions[starts + last])
    assert all("held" not in record.values["message"] for record in records[len(idle) :])
