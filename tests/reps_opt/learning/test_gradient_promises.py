"""Promises of gradient steps: what they tend to, how far their errors cover, and what noise alone may promise."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pytest

import envs
from policies import NeuralPolicy, SoftmaxPolicy
from reps_opt import CPO, ENAC, MDP, TRPO, Batch, History, NaturalGradient, VanillaGradient, improve, rollout
from reps_opt.learning.surrogates import visits
from reps_opt.solvers import Quadratic

GAMMA = 0.9
N_STATES = 5
"""Of the corridor below, the exit included."""


def corridor(noise=0.3):
    """Left or right, with slips; the exit pays nothing any more, and each step before it costs less further right."""
    P = np.zeros((N_STATES, 2, N_STATES))
    for s in range(N_STATES - 1):
        P[s, 0, max(s - 1, 0)], P[s, 0, s + 1] = 1 - noise, noise
        P[s, 1, max(s - 1, 0)], P[s, 1, s + 1] = noise, 1 - noise
    P[-1, :, -1] = 1.0
    rewards = np.outer(0.3 * np.arange(N_STATES) - 1.0, [1.0, 1.2])
    rewards[-1] = 0.0
    return MDP(P, rewards, gamma=GAMMA, mu0=np.eye(N_STATES)[2])


def ring():
    """Five states in a circle that nobody leaves; what a step pays depends on where and how it is made."""
    P = np.zeros((N_STATES, 2, N_STATES))
    for s in range(N_STATES):
        P[s, 0, (s + 1) % N_STATES], P[s, 0, s] = 0.8, 0.2
        P[s, 1, (s - 1) % N_STATES], P[s, 1, s] = 0.6, 0.4
    rewards = np.random.default_rng(0).normal(size=(N_STATES, 2))
    return MDP(P, rewards, gamma=GAMMA, mu0=np.eye(N_STATES)[0])


def table(policy):
    return policy.predict_proba(np.arange(N_STATES))


def advantages(mdp, pi, gamma):
    """Exact A (S, A)."""
    P = mdp.transitions.toarray().reshape(N_STATES, 2, N_STATES)
    value = np.linalg.solve(np.eye(N_STATES) - gamma * np.einsum("sa,sat->st", pi, P), (pi * mdp.rewards).sum(axis=1))
    return mdp.rewards + gamma * P @ value - value[:, None]


def state_visits(mdp, pi, weights):
    """Mean (S,) of where a process is at the times that the weights count."""
    P = np.einsum("sa,sat->st", pi, mdp.transitions.toarray().reshape(N_STATES, 2, N_STATES))
    d, now = np.zeros(N_STATES), mdp.mu0
    for weight in weights:
        d, now = d + weight * now, now @ P
    return d


def calibrated(promises, errors, exact):
    """Share of the promises within two of their errors, after a look at their mean, and at the mean of the errors."""
    off = np.array(promises) - exact
    assert abs(off.mean()) < 3.5 * off.std() / np.sqrt(len(off)) + 0.02 * np.mean(np.abs(exact))
    assert 0.7 * off.std() < np.sqrt(np.mean(np.square(errors))) < 1.6 * off.std()
    return np.mean(np.abs(off) < 2 * np.array(errors))


@cache
def batches(exits):
    """Sixty small batches of the uniform policy, each cut in the middle of an episode; and the task."""
    mdp = corridor() if exits else ring()
    env = envs.TabularEnv(mdp, horizon=None if exits else 40)
    policy = SoftmaxPolicy.from_env(env)
    return mdp, policy, [rollout(env, policy, n_steps=500, seed=seed) for seed in range(60)]


@pytest.mark.parametrize("make", [TRPO, VanillaGradient, NaturalGradient], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("exits", [True, False])
def test_errors_cover_the_exact_surrogate_gain(make, exits):
    """Promises of many batches beside the exact gain of their steps."""
    mdp, policy, many = batches(exits)
    size = {"length": 0.5} if make is VanillaGradient else {"epsilon": 0.02}
    update = make(gamma=GAMMA, **size)
    pi = table(policy)
    A = advantages(mdp, pi, GAMMA)
    weights = (1 - GAMMA) * GAMMA ** np.arange(300) if exits else np.full(40, 1 / 40)
    d = state_visits(mdp, pi, weights)
    promises, errors, exact = [], [], []
    for batch in many:
        result = update(policy, batch)
        assert result.stats["starts"] == ("episodes" if exits else "visited")
        promises.append(result.stats["predicted_gain"])
        errors.append(result.stats["predicted_gain_error"])
        exact.append(float(d @ ((table(result.policy) - pi) * A).sum(axis=1)))
    assert calibrated(promises, errors, exact) > 0.9


def test_steps_by_products_promise_the_same():
    """Without a factor of the metric a rough solve says how much of the step is noise."""
    _, policy, many = batches(False)
    exact = TRPO(gamma=GAMMA, damping=1e-6, exact_fisher=True)
    products = replace(exact, solver=Quadratic("cg"))
    told = np.array(
        [[update(policy, batch).stats["predicted_gain"] for update in (exact, products)] for batch in many[:20]]
    )
    assert told[:, 1] == pytest.approx(told[:, 0], rel=0.1)
    assert not np.array_equal(*told.T)


def test_promises_tend_to_the_exact_surrogate_gain():
    mdp = corridor()
    env = envs.TabularEnv(mdp)
    policy = SoftmaxPolicy.from_env(env)
    A = advantages(mdp, table(policy), GAMMA)
    d = state_visits(mdp, table(policy), (1 - GAMMA) * GAMMA ** np.arange(300))
    result = TRPO(gamma=GAMMA)(policy, rollout(env, policy, n_steps=60_000, seed=0))
    exact = float(d @ ((table(result.policy) - table(policy)) * A).sum(axis=1))
    assert result.stats["predicted_gain"] == pytest.approx(exact, rel=0.04)
    assert abs(result.stats["predicted_gain"] - exact) < 2.5 * result.stats["predicted_gain_error"]
    assert abs(result.stats["optimism"]) < 0.05 * exact


@pytest.mark.parametrize("gamma", [GAMMA, 1.0])
def test_errors_of_the_episodic_actor_critic_cover_too(gamma):
    """Its objective is the return of an episode of ten steps: discounted, over the sum of the discounts; or plain."""
    mdp, horizon = ring(), 10
    env = envs.TabularEnv(mdp, horizon=horizon)
    policy = SoftmaxPolicy.from_env(env)
    pi, discounts = table(policy), gamma ** np.arange(horizon)
    P = mdp.transitions.toarray().reshape(N_STATES, 2, N_STATES)
    value, ahead = np.zeros(N_STATES), []
    for _ in range(horizon):
        Q = mdp.rewards + gamma * P @ value
        value = (pi * Q).sum(axis=1)
        ahead.insert(0, Q - value[:, None])
    unit = 1.0 if gamma == 1 else discounts.sum()
    promises, errors, exact = [], [], []
    for seed in range(100):
        result = ENAC(gamma=gamma, epsilon=0.02)(policy, rollout(env, policy, n_episodes=200, seed=seed))
        promises.append(result.stats["predicted_gain"])
        errors.append(result.stats["predicted_gain_error"])
        moved = [((table(result.policy) - pi) * A).sum(axis=1) for A in ahead]
        where = [state_visits(mdp, pi, np.eye(horizon)[t][: t + 1]) for t in range(horizon)]
        exact.append(sum(w * (d @ m) for w, d, m in zip(discounts, where, moved, strict=True)) / unit)
    assert calibrated(promises, errors, exact) > 0.9


def bandit(n=400, seed=0):
    """One step an episode, two actions at one state, worth one and three."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(2, size=n)
    states = np.zeros(n, dtype=int)
    return Batch(states, actions, 1.0 + 2.0 * actions, states, terminated=np.ones(n, dtype=bool))


def test_known_advantages():
    """Arms worth one and three: the promise is how much more often the better one is drawn, times what it is worth."""
    policy = SoftmaxPolicy.from_spaces(*two_arms())
    update = TRPO(gamma=0.5, epsilon=0.01)
    promises, exact = [], []
    for seed in range(60):
        result = update(policy, bandit(seed=seed))
        drawn = float(result.policy.predict_proba([0])[0, 1])
        promises.append(result.stats["predicted_gain"])
        exact.append((1 - 0.5) * 2.0 * (drawn - 0.5))  # one less gamma of the return
        assert result.stats["base_objective"] == pytest.approx(0.5 * np.mean(bandit(seed=seed).rewards))
    assert drawn > 0.55
    assert np.mean(promises) == pytest.approx(np.mean(exact), rel=0.03)
    raw = TRPO(gamma=0.5, epsilon=0.01, standardise=False)(policy, bandit())
    assert raw.stats["predicted_gain"] == pytest.approx(update(policy, bandit()).stats["predicted_gain"], rel=0.1)


def two_arms():
    from gymnasium.spaces import Discrete

    return Discrete(2), Discrete(2)


def test_noise_alone_is_not_promised():
    """Rewards that no action changes: the surrogate of a network's step is large, and what it promises is nothing."""
    rng = np.random.default_rng(0)
    policy = NeuralPolicy(hidden=(16, 16), max_iter=2, random_state=0)
    policy = policy.fit(rng.normal(size=(50, 4)), rng.normal(size=(50, 2)))
    ends = np.arange(500) % 50 == 49
    promises, errors, surrogates = [], [], []
    for _ in range(40):
        states = rng.normal(size=(500, 4))
        batch = Batch(
            states, policy.sample(states, rng), rng.normal(size=500), rng.normal(size=(500, 4)), truncated=ends
        )
        stats = TRPO()(policy, batch).stats
        promises.append(stats["predicted_gain"])
        errors.append(stats["predicted_gain_error"])
        surrogates.append(stats["predicted_gain"] + stats["optimism"])
    assert np.mean(surrogates) > 0.02
    assert np.min(surrogates) > 0
    assert -0.35 < np.mean(promises) / np.mean(surrogates) < 0.05  # too modest where so few directions are open
    assert np.mean(np.abs(promises) < 2 * np.array(errors)) > 0.85


def test_an_episode_that_the_recording_cut_short_is_not_counted_as_one():
    batch = Batch([0] * 7, [0] * 7, np.ones(7), [0] * 7, truncated=np.array([0, 0, 1, 0, 0, 1, 0], dtype=bool))
    assert visits(batch, 1.0).mean(batch.rewards)[0] == pytest.approx(3.5)  # seven rewards in two episodes of three
    whole = batch.select_episodes(np.array([0, 1]))
    assert visits(whole, 1.0).mean(whole.rewards) == pytest.approx((3.0, 0.0))
    for ends in (
        [0, 0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 0, 0],
    ):  # a step is cut off; or nothing, by all one knows
        left = Batch([0] * 7, [0] * 7, np.ones(7), [0] * 7, terminated=np.array(ends, dtype=bool))
        assert visits(left, 1.0).mean(left.rewards)[0] == pytest.approx(3.5)
    alone = batch.select_episodes(np.array([0]))
    assert np.isnan(visits(alone, 0.9).mean(alone.rewards)[1])  # one episode says nothing of how they differ


@pytest.mark.parametrize("update", [TRPO(gamma=0.9), CPO(gamma=0.9, budget=5.0), ENAC(gamma=0.9)])
def test_the_objective_is_that_of_the_promise(update):
    env = envs.LQR()
    policy = NeuralPolicy.from_env(env, hidden=(4,), random_state=0)
    batch = rollout(env, policy, n_episodes=30, seed=0)
    batch = Batch(**{**batch.arrays(), "costs": np.sum(batch.actions**2, axis=1)})
    stats = update(policy, batch).stats
    told = stats["base_objective"], stats["base_objective_error"]
    assert update.objective(batch, starts=stats["starts"]) == pytest.approx(told)


def test_promises_and_gains_of_a_run_stand_side_by_side_and_are_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = History(improve("CartPole-v1", None, TRPO(), 8, n_steps=1_000, seed=0, evaluate=20))
    frame = history.to_frame()
    assert (frame["predicted_gain_error"] > 0).all()
    told = frame[["predicted_gain", "gain"]].sum()
    spread = np.sqrt((frame["predicted_gain_error"] ** 2 + frame["gain_error"] ** 2).sum())
    assert abs(told["predicted_gain"] - told["gain"]) < 3 * spread
    assert told["gain"] > 0.3
    assert frame["refuted"].max() < 3
    assert "predicted gain" in repr(history[-1].update)


def test_a_history_draws_promise_and_gain_with_their_errors_in_one_unit():
    history = History(improve("CartPole-v1", None, TRPO(), 3, n_steps=300, seed=0))
    frame = history.to_frame()
    assert (frame["gain_error"][:-1] > 0).all()  # of the roll-outs that judged, and those that were judged by
    figure = history.plot()
    (axis,) = [axis for axis in figure.axes if "promised and got" in axis.get_title()]
    labels = {text.get_text() for text in axis.get_legend().get_texts()}
    assert labels == {"predicted_gain", "gain"}  # the surrogate is in units of the advantages
    plt.close(figure)
