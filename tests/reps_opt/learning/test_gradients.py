"""Gradient estimators against enumeration, finite differences and the exact gradients of a finite MDP."""

import numpy as np
import pytest

from reps_opt import Factor, TrustRegionStep, compare_policies, solve
from reps_opt.learning.gradients import (
    enac,
    fisher,
    gpomdp,
    natural_actor_critic,
    reinforce,
    surrogate_gradient,
)
from reps_opt.learning.returns import bootstrapped_rewards, episodes, generalised_advantages, returns_to_go
from tests.reps_opt.exact_gradients import (
    exact_fisher,
    exact_gradient,
    softmax_scores,
)
from tests.reps_opt.step_fakes import LinearGaussian, SoftmaxTable, coin_mdp, every_trajectory, mean_kl, sample_episodes


def differences(function, x, h=1e-6):
    return np.array([(function(x + d) - function(x - d)) / (2 * h) for d in h * np.eye(x.size)])


@pytest.fixture(scope="module")
def mdp():
    return coin_mdp()


@pytest.fixture(scope="module")
def policy():
    return SoftmaxTable(np.random.default_rng(5).normal(size=(3, 2)))


@pytest.fixture(scope="module")
def population(mdp):
    """Every trajectory of three steps, equally likely under the uniform policy, and its scores."""
    batch = every_trajectory(mdp, 3)
    return batch, SoftmaxTable(np.zeros((3, 2))).score_function(batch.states, batch.actions)


def finite_horizon_return(mdp, logits, horizon, last=None):
    table = SoftmaxTable(logits.reshape(3, 2)).table
    v = np.zeros(3) if last is None else last
    for _ in range(horizon):
        q = mdp.rewards + mdp.gamma * (mdp.transitions @ v).reshape(3, 2)
        v = np.sum(table * q, axis=1)
    return mdp.mu0 @ v


class TestExact:
    @pytest.mark.parametrize("gamma", [0.3, 0.95, 1.0])
    def test_gradient_is_that_of_the_expected_return(self, policy, gamma):
        mdp = coin_mdp(gamma)
        numeric = differences(lambda x: mdp.expected_return(policy.with_params(x).table), policy.params)
        np.testing.assert_allclose(exact_gradient(mdp, policy.table), numeric, atol=1e-9)

    def test_any_parametrisation_by_its_scores(self, mdp):
        rng = np.random.default_rng(0)
        M = rng.normal(size=(6, 4))
        x = rng.normal(size=4)
        table = SoftmaxTable((M @ x).reshape(3, 2)).table
        scores = (softmax_scores(table).reshape(6, 6) @ M).reshape(3, 2, 4)
        numeric = differences(lambda y: mdp.expected_return(SoftmaxTable((M @ y).reshape(3, 2)).table), x)
        np.testing.assert_allclose(exact_gradient(mdp, table, scores), numeric, atol=1e-9)

    def test_fisher_is_the_curvature_of_the_mean_kl_in_both_directions(self, mdp, policy):
        F = exact_fisher(mdp, policy.table).matrix
        for direction in ("kl_old_new", "kl_new_old"):
            v = np.random.default_rng(2).normal(size=6)
            h = 1e-3
            kl = [
                getattr(compare_policies(mdp, policy.table, policy.with_params(policy.params + d * v).table), direction)
                for d in (h, -h)
            ]
            assert sum(kl) / h**2 == pytest.approx(v @ F @ v, rel=1e-5)

    def test_natural_gradient_of_a_softmax_table_is_the_advantage(self, mdp, policy):
        w = exact_fisher(mdp, policy.table).solve(exact_gradient(mdp, policy.table)).reshape(3, 2)
        advantage = mdp.advantage(policy.table)
        np.testing.assert_allclose(w[:, 1] - w[:, 0], advantage[:, 1] - advantage[:, 0], rtol=1e-10)
        stepped = policy.with_params(policy.params + 0.7 * w.ravel()).table
        expected = policy.table * np.exp(0.7 * advantage)
        np.testing.assert_allclose(stepped, expected / expected.sum(axis=1, keepdims=True), rtol=1e-10)

    def test_surrogate_agrees_with_the_return_to_first_order(self, mdp, policy):
        v = np.random.default_rng(3).normal(size=6)

        def gap(h):
            new = policy.with_params(policy.params + h * v).table
            compared = compare_policies(mdp, policy.table, new)
            return abs(compared.surrogate - compared.gain)

        assert gap(0.0) < 1e-14
        assert gap(1e-3) / gap(1e-2) == pytest.approx(1e-2, rel=0.1)

    def test_trpo_step_predicts_what_it_gets_when_small(self, mdp, policy):
        g, F = exact_gradient(mdp, policy.table), exact_fisher(mdp, policy.table)
        solution = solve(TrustRegionStep(g, F, 1e-8))
        new = policy.with_params(policy.params + solution.step).table
        assert compare_policies(mdp, policy.table, new).kl_old_new == pytest.approx(1e-8, rel=1e-3)
        gain = mdp.expected_return(new) - mdp.expected_return(policy.table)
        assert gain == pytest.approx(solution.predicted_gain, rel=1e-3)


class TestLikelihoodRatio:
    @pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
    @pytest.mark.parametrize("estimator", [reinforce, gpomdp])
    def test_the_mean_over_all_trajectories_is_the_exact_gradient(self, mdp, population, estimator, baseline):
        batch, scores = population
        g = estimator(scores, batch.rewards, batch.terminated, batch.truncated, mdp.gamma, baseline)
        numeric = differences(lambda x: finite_horizon_return(mdp, x, 3), np.zeros(6))
        np.testing.assert_allclose(g, numeric, atol=1e-9)

    def test_a_cut_episode_counts_the_value_of_what_follows(self, mdp, population):
        batch, scores = population
        v = mdp.value(mdp.uniform_policy())
        rewards = bootstrapped_rewards(
            batch.rewards, batch.terminated, batch.truncated, v[batch.next_states], mdp.gamma
        )
        g = gpomdp(scores, rewards, batch.terminated, batch.truncated, mdp.gamma)
        numeric = differences(lambda x: finite_horizon_return(mdp, x, 3, v), np.zeros(6))
        np.testing.assert_allclose(g, numeric, atol=1e-9)

    def test_optimal_baselines_and_causality_lower_the_variance(self, mdp, policy):
        rng = np.random.default_rng(0)
        runs = {name: [] for name in ("none", "optimal", "gpomdp")}
        for _ in range(60):
            b = sample_episodes(mdp, policy, 50, 6, rng)
            data = (policy.score_function(b.states, b.actions), b.rewards + 3.0, b.terminated, b.truncated, 0.9)
            runs["none"].append(reinforce(*data, "none"))
            runs["optimal"].append(reinforce(*data, "optimal"))
            runs["gpomdp"].append(gpomdp(*data, "optimal"))
        spread = {name: np.var(values, axis=0).sum() for name, values in runs.items()}
        assert spread["gpomdp"] < spread["optimal"] < 0.5 * spread["none"]

    def test_enac_is_the_natural_gradient_without_a_fisher_matrix(self, population, mdp):
        batch, scores = population
        w = enac(scores, batch.rewards, batch.terminated, batch.truncated, mdp.gamma)
        psi = scores.reshape(-1, 3, 6).sum(axis=1)  # means zero over the population
        g = reinforce(scores, batch.rewards, batch.terminated, batch.truncated, mdp.gamma, "none")
        np.testing.assert_allclose(w, np.linalg.pinv(psi.T @ psi / len(psi)) @ g, atol=1e-12)
        solution = solve(TrustRegionStep(g, Factor(psi), 0.1))
        np.testing.assert_allclose(psi @ solution.step * solution.eta, psi @ w, atol=1e-11)

    def test_enac_with_a_ridge_solves_the_damped_system(self):
        rng = np.random.default_rng(1)
        scores, rewards = rng.normal(size=(40, 5)), rng.normal(size=40)
        every = np.ones(40, dtype=bool)
        w = enac(scores, rewards, every, ~every, ridge=0.1)
        spread = scores - scores.mean(axis=0)
        share = 0.1 * np.diag(np.sum(spread**2, axis=0))
        expected = np.linalg.solve(spread.T @ spread + share, spread.T @ (rewards - rewards.mean()))
        np.testing.assert_allclose(w, expected, rtol=1e-10)


class TestAdvantages:
    @pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
    def test_with_exact_values_their_mean_is_the_advantage_where_episodes_are_cut(self, mdp, population, gae_lambda):
        batch, _ = population
        uniform = mdp.uniform_policy()
        v = mdp.value(uniform)
        estimates = generalised_advantages(
            batch.rewards,
            v[batch.states],
            v[batch.next_states],
            batch.terminated,
            batch.truncated,
            mdp.gamma,
            gae_lambda,
        )
        pair = 2 * batch.states + batch.actions
        seen = np.unique(pair)
        mean = np.bincount(pair, weights=estimates)[seen] / np.bincount(pair)[seen]
        np.testing.assert_allclose(mean, mdp.advantage(uniform).ravel()[seen], atol=1e-12)

    def test_termination_is_not_truncation(self):
        arguments = ([1.0, 1.0], [0.0, 0.0], [5.0, 5.0])
        over = generalised_advantages(*arguments, [0, 1], [0, 0], 0.5, 1.0)
        cut = generalised_advantages(*arguments, [0, 0], [0, 1], 0.5, 1.0)
        np.testing.assert_allclose(over, [1 + 2.5 + 0.5 * 1.0, 1.0])
        np.testing.assert_allclose(cut, [1 + 2.5 + 0.5 * 3.5, 3.5])
        both = generalised_advantages(*arguments, [0, 1], [0, 1], 0.5, 1.0)
        np.testing.assert_allclose(both, over)

    def test_lambda_one_is_returns_minus_values(self):
        rng = np.random.default_rng(0)
        r, v = rng.normal(size=30), rng.normal(size=30)
        terminated, truncated = rng.random(30) < 0.1, rng.random(30) < 0.1
        ahead = np.append(v[1:], 0.7)
        advantages = generalised_advantages(r, v, ahead, terminated, truncated, 0.9, 1.0)
        np.testing.assert_allclose(advantages + v, returns_to_go(r, terminated, truncated, 0.9, ahead), atol=1e-12)

    def test_episodes(self):
        parts = episodes([0, 1, 0, 0, 0], [0, 0, 1, 0, 0])
        np.testing.assert_array_equal(parts.number, [0, 0, 1, 2, 2])
        np.testing.assert_array_equal(parts.time, [0, 1, 0, 0, 1])
        assert parts.n_episodes == 3


class TestNaturalActorCritic:
    @pytest.mark.parametrize("lstd_lambda", [0.0, 0.6])
    def test_with_value_features_that_fit_it_finds_the_natural_gradient(self, mdp, population, lstd_lambda):
        batch, scores = population
        eye = np.eye(3)
        result = natural_actor_critic(
            scores,
            eye[batch.states],
            eye[batch.next_states],
            batch.rewards,
            batch.terminated,
            batch.truncated,
            mdp.gamma,
            lstd_lambda,
        )
        uniform = mdp.uniform_policy()
        w = result.natural_gradient.reshape(3, 2)
        advantage = mdp.advantage(uniform)
        np.testing.assert_allclose(w[:, 1] - w[:, 0], advantage[:, 1] - advantage[:, 0], atol=1e-10)
        np.testing.assert_allclose(result.value_weights, mdp.value(uniform), atol=1e-10)

    def test_termination_ends_the_value(self):
        one = np.ones((1, 1))
        for over, expected in ((True, 1.0), (False, 2.0)):
            result = natural_actor_critic(np.zeros((1, 1)), one, one, [1.0], [over], [not over], 0.5)
            np.testing.assert_allclose(result.value_weights, [expected])


class TestPolicies:
    @pytest.fixture(params=["softmax", "gaussian"])
    def case(self, request):
        rng = np.random.default_rng(9)
        if request.param == "softmax":
            policy = SoftmaxTable(rng.normal(size=(3, 2)))
            states = rng.integers(3, size=400)
        else:
            policy = LinearGaussian(rng.normal(size=2), -0.3)
            states = rng.normal(size=(400, 2))
        return policy, states, policy.sample(states, rng), rng

    def test_surrogate_gradient_by_finite_differences(self, case):
        policy, states, actions, rng = case
        advantages = rng.normal(size=400)
        old = policy.log_prob(states, actions)

        def surrogate(x):
            return np.mean(np.exp(policy.with_params(x).log_prob(states, actions) - old) * advantages)

        numeric = differences(surrogate, policy.params)
        np.testing.assert_allclose(surrogate_gradient(policy, states, actions, advantages), numeric, atol=1e-8)

    def test_kl_directions_and_their_common_curvature(self, case):
        policy, states, _, rng = case
        v, h = rng.normal(size=policy.params.size), 1e-3
        new, far = (policy.with_params(policy.params + d * v) for d in (h, 0.5))
        assert mean_kl(policy, far, states) != pytest.approx(mean_kl(far, policy, states), rel=1e-2)
        if isinstance(policy, LinearGaussian):
            F = fisher(policy, states).matrix
        else:
            chance = np.concatenate([policy.table[states, a] for a in range(2)])
            scores = policy.score_function(np.tile(states, 2), np.repeat([0, 1], 400))
            F = Factor(scores, chance / chance.sum()).matrix
        assert mean_kl(policy, new, states) == pytest.approx(0.5 * h**2 * v @ F @ v, rel=5e-3)

    def test_the_empirical_fisher_tends_to_the_exact_one(self):
        rng = np.random.default_rng(4)
        policy = LinearGaussian([0.5, -1.0], 0.2)
        states = rng.normal(size=(200_000, 2))
        exact = fisher(policy, states).matrix
        sampled = fisher(policy, states, policy.sample(states, rng)).matrix
        np.testing.assert_allclose(sampled, exact, atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: episodes([], []), "N >= 1"),
        (lambda: episodes([0, 1], [0]), "one shape"),
        (lambda: returns_to_go([1.0, np.nan], [0, 0], [0, 1], 0.9), r"rewards\[1\] is nan"),
        (lambda: returns_to_go([1.0], [0, 0], [0, 1], 0.9), "rewards must have shape"),
        (lambda: returns_to_go([1.0], [1], [0], 1.5), "gamma must be"),
        (lambda: reinforce(np.ones((2, 1)), [1.0, 1.0], [0, 1], [0, 0], 0.9, "best"), "baseline must be one of"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
