"""Updates on sampled batches: what they report is what they did."""

from dataclasses import replace
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import envs
from policies import LinearGaussianPolicy, NeuralPolicy, TabularPolicy
from policies.network import Network
from reps_opt import (
    CPO,
    ENAC,
    MDP,
    TRPO,
    Batch,
    Factor,
    NaturalGradient,
    RewardWeightedRegression,
    Status,
    TrustRegionStep,
    VanillaGradient,
    importance_weights,
    natural_actor_critic,
    rollout,
    solve,
)
from reps_opt.learning.gradients import surrogate_gradient
from reps_opt.learning.returns import estimate_advantages
from reps_opt.learning.surrogates import fisher_step
from reps_opt.solvers import Quadratic
from tests.reps_opt.exact_gradients import exact_gradient
from tests.reps_opt.step_fakes import LinearGaussian, SoftmaxTable, coin_mdp, mean_kl, sample_episodes

UPDATES = [
    VanillaGradient(gamma=0.8, length=0.3),
    VanillaGradient(gamma=0.8, step_size=0.5),
    NaturalGradient(gamma=0.8, step_size=0.1),
    NaturalGradient(gamma=0.8, epsilon=0.02),
    TRPO(gamma=0.8, epsilon=0.02),
]


@pytest.fixture(scope="module")
def mdp():
    return coin_mdp()


@pytest.fixture(scope="module")
def policy():
    return SoftmaxTable(np.zeros((3, 2)))


@pytest.fixture(scope="module")
def batch(mdp, policy):
    return sample_episodes(mdp, policy, 200, 20, np.random.default_rng(0))


@pytest.mark.parametrize("update", UPDATES, ids=lambda u: type(u).__name__)
def test_every_update_reports_the_policy_it_returns(mdp, policy, batch, update):
    before = policy.params
    result = update(policy, batch)
    assert result.accepted
    assert result.gain > 0
    assert result.kl == pytest.approx(mean_kl(result.policy, policy, batch.states))
    assert result.kl_old_new == pytest.approx(mean_kl(policy, result.policy, batch.states))
    np.testing.assert_allclose(result.policy.params, before + result.step)
    np.testing.assert_array_equal(policy.params, before)
    assert mdp.expected_return(result.policy.table) > mdp.expected_return(policy.table)
    assert "accepted" in repr(result)


def test_lengths_and_sizes_are_what_they_say(policy, batch):
    length = VanillaGradient(gamma=0.8, length=0.3)(policy, batch)
    assert np.linalg.norm(length.policy.params) == pytest.approx(0.3)
    estimate = estimate_advantages(batch, batch.rewards, 0.8, 0.95).advantages
    advantages = (estimate - estimate.mean()) / estimate.std()
    g = surrogate_gradient(policy, batch.states, batch.actions, advantages)
    sized = VanillaGradient(gamma=0.8, step_size=0.5)(policy, batch)
    np.testing.assert_allclose(sized.policy.params, 0.5 * g, rtol=1e-10)
    F = Factor(policy.score_function(batch.states, batch.actions)).matrix
    natural = NaturalGradient(gamma=0.8, step_size=0.1, damping=0.01, exact_fisher=False)(policy, batch)
    np.testing.assert_allclose(
        natural.policy.params, 0.1 * np.linalg.solve(F + 0.01 * np.diag(np.diag(F)), g), rtol=1e-8
    )
    limited = NaturalGradient(gamma=0.8, step_size=1e3, epsilon=0.02)(policy, batch)
    assert limited.fraction == 1.0
    assert limited.solution.predicted_kl == pytest.approx(0.02)


def test_repeated_trpo_solves_the_mdp(mdp):
    policy, rng = SoftmaxTable(np.zeros((3, 2))), np.random.default_rng(3)
    update = TRPO(gamma=0.8, epsilon=0.05)
    for _ in range(25):
        result = update(policy, sample_episodes(mdp, policy, 100, 20, rng))
        assert result.kl_old_new <= 0.05
        policy = result.policy
    best = mdp.solve_optimal().value @ mdp.mu0 * 0.2
    assert mdp.expected_return(policy.table) > best - 0.02 * abs(best)


def test_advantages_estimate_the_exact_gradient(mdp, policy):
    batch = sample_episodes(mdp, policy, 20_000, 20, np.random.default_rng(1))
    weight = 0.8 ** np.tile(np.arange(20), 20_000)
    advantages = estimate_advantages(batch, batch.rewards, 0.8, 1.0).advantages
    g = surrogate_gradient(policy, batch.states, batch.actions, advantages * weight)
    exact = exact_gradient(mdp, policy.table) * (1 - 0.8**20) / (1 - 0.8) / 20
    np.testing.assert_allclose(g, exact, atol=3e-3)


class Stubborn(SoftmaxTable):
    """A policy whose KL divergence, or whose likelihood, has nothing to do with its gradient."""

    def with_params(self, params):
        return Stubborn(np.reshape(params, self.logits.shape))

    def kl_divergence(self, other, states):
        return np.full(len(states), 1.0)


def test_a_rejected_step_is_never_reported_as_taken(batch):
    policy = Stubborn(np.zeros((3, 2)))
    result = TRPO(gamma=0.8, epsilon=0.02, trials=4)(policy, batch)
    assert result.policy is policy
    assert (result.accepted, result.fraction, result.kl, result.gain, result.trials) == (False, 0.0, 0.0, 0.0, 4)
    assert "KL stays above" in result.message
    assert "rejected" in repr(result)


def test_the_line_search_shortens_until_the_true_kl_fits():
    rng = np.random.default_rng(2)
    policy = LinearGaussian([0.0], 0.0)
    states = rng.normal(size=(500, 1))
    actions = policy.sample(states, rng)
    rewards = -((actions - 2 * states[:, 0]) ** 2)
    every = np.ones(500, dtype=bool)
    batch = SimpleNamespace(
        states=states, actions=actions, rewards=rewards, next_states=states, terminated=every, truncated=~every
    )
    result = TRPO(epsilon=0.5, exact_fisher=False)(policy, batch)
    assert result.accepted
    assert result.trials > 1
    whole = policy.with_params(policy.params + result.step / result.fraction)
    assert 0.42 < result.kl_old_new <= 0.5 < mean_kl(policy, whole, states)


def test_of_a_trial_that_leaves_the_ball_only_its_divergence_is_computed(batch):
    asked = []

    class Telling(Stubborn):
        def with_params(self, params):
            return Telling(np.reshape(params, self.logits.shape))

        def log_prob(self, states, actions):
            asked.append(self)
            return super().log_prob(states, actions)

    policy = Telling(np.zeros((3, 2)))
    result = TRPO(gamma=0.8, epsilon=0.02, trials=4)(policy, batch)
    assert result.trials == 4
    assert {id(one) for one in asked} == {id(policy)}


@pytest.mark.parametrize("update", UPDATES, ids=lambda u: type(u).__name__)
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_advantages_without_spread_leave_the_policy(policy, batch, update, level):
    same = SimpleNamespace(**{**vars(batch), "rewards": np.full_like(batch.rewards, level)})
    if level:  # terminated after one step each: nothing differs
        same.terminated, same.truncated = np.ones_like(batch.terminated), np.zeros_like(batch.truncated)
    result = update(policy, same)
    assert result.policy is policy
    assert not result.accepted
    assert result.message == "the gradient is zero"


def test_conjugate_gradient_takes_the_same_step(policy, batch):
    one = TRPO(gamma=0.8)(policy, batch)
    other = TRPO(gamma=0.8, solver=Quadratic("cg"))(policy, batch)
    np.testing.assert_allclose(one.policy.params, other.policy.params, rtol=1e-8)
    assert other.solution.stats["method"] == "cg"


class TestCPO:
    """Two actions in one state: the rewarding one costs, and the budget allows it some of the time."""

    COSTS = np.array([[0.0, 1.0]])

    @pytest.fixture
    def bandit(self):
        return MDP(np.ones((1, 2, 1)), [[0.0, 1.0]], gamma=0.5)

    def run(self, bandit, policy, budget, iterations, seed=0):
        rng, results = np.random.default_rng(seed), []
        update = CPO(gamma=0.5, epsilon=0.02, budget=budget, damping=1e-3)
        for _ in range(iterations):
            results.append(update(policy, sample_episodes(bandit, policy, 300, 10, rng, self.COSTS)))
            policy = results[-1].policy
        return policy, results

    def test_it_climbs_to_the_budget_and_stays(self, bandit):
        policy, results = self.run(bandit, SoftmaxTable([[1.0, -1.0]]), 0.8, 40)
        cost = policy.table[0, 1] * (1 - 0.5**10) / 0.5  # expected discounted cost of an episode
        assert 0.65 < cost < 0.9
        assert any(result.solution is not None and np.any(result.solution.nu > 0) for result in results)
        free = self.run(bandit, SoftmaxTable([[1.0, -1.0]]), 10.0, 40)[0]
        assert free.table[0, 1] > 0.9

    def test_it_recovers_from_a_policy_that_costs_too_much(self, bandit):
        policy, results = self.run(bandit, SoftmaxTable([[-2.0, 2.0]]), 0.8, 20)
        assert results[0].stats["recovering"]
        assert results[0].accepted
        assert results[0].cost < results[0].stats["expected_cost"]
        assert policy.table[0, 1] * 2 < 1.0

    def test_accepted_steps_keep_to_the_surrogate_budget(self, bandit):
        _, results = self.run(bandit, SoftmaxTable([[1.0, -1.0]]), 0.8, 30, seed=3)
        for result in results:
            if result.accepted and result.stats["expected_cost"] <= 0.8:
                assert result.cost <= 0.8
                assert result.gain > 0


def test_the_natural_step_maximises_the_ratio_of_gain_to_length(policy, batch):
    result = TRPO(gamma=0.8, epsilon=1e-3, damping=0.0)(policy, batch)
    F = Factor(policy.score_function(batch.states, batch.actions))
    g = result.solution.problem.gradient
    own = g @ result.solution.step / np.sqrt(2 * F.half_square(result.solution.step))
    for _ in range(50):
        s = np.random.default_rng(_).normal(size=6)
        assert g @ s / np.sqrt(2 * F.half_square(s)) <= own * (1 + 1e-9)
    assert own == pytest.approx(solve(TrustRegionStep(g, F, 0.5)).objective, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VanillaGradient(), "exactly one of length and step_size"),
        (lambda: VanillaGradient(length=1.0, step_size=1.0), "exactly one of length and step_size"),
        (lambda: VanillaGradient(length=-1.0), "length must be > 0"),
        (lambda: NaturalGradient(), "at least one of step_size and epsilon"),
        (lambda: NaturalGradient(step_size=0.0), "step_size must be > 0"),
        (lambda: TRPO(epsilon=0.0), "epsilon must be > 0"),
        (lambda: TRPO(shrink=1.5), "shrink must be"),
        (lambda: TRPO(trials=0), "trials must be >= 1"),
        (lambda: TRPO(gamma=1.5), "gamma must be"),
        (lambda: CPO(budget=np.nan), "budget must be"),
        (lambda: CPO(budget=[]), "budget is empty"),
        (lambda: TRPO(damping=-1.0), "damping must be"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Infinite minus infinite: an action of probability zero has no ratio, and no say.


def impossible():
    policy = TabularPolicy.from_probabilities([[0.5, 0.5], [1.0, 0.0]])
    return policy, Batch([0, 1, 0, 1], [0, 1, 1, 0], [0.0, 1, 2, 0], [1, 0, 1, 0], truncated=[0, 0, 0, 1])


def test_importance_weights_of_impossible_actions_are_zero():
    policy = TabularPolicy.from_probabilities([[1.0, 0.0]])
    batch = Batch([0, 0], [0, 1], [0.0, 0.0], [0, 0], truncated=[0, 1])
    np.testing.assert_array_equal(importance_weights(policy, [(policy, batch)]), [2.0, 0.0])
    with pytest.raises(ValueError, match="can draw none of its actions"):
        importance_weights(policy, [(policy, batch.select([1]))])
    other = TabularPolicy.from_probabilities([[0.5, 0.5]])
    with pytest.raises(ValueError, match="transition 1 has probability zero under all that acted"):
        importance_weights(other, [(policy, batch)])


@pytest.mark.parametrize("update", UPDATES, ids=lambda u: type(u).__name__)
def test_gains_are_finite_where_an_action_has_probability_zero(update):
    _, batch = impossible()
    result = update(SoftmaxTable(np.array([[0.0, 0.0], [0.0, -np.inf]])), batch)
    assert np.isfinite(result.gain)
    assert np.isfinite(result.kl)
    assert "1 of 4 actions have probability zero under the policy: left out" in result.message


def test_a_batch_of_impossible_actions_is_another_policys():
    _, batch = impossible()
    with pytest.raises(ValueError, match="every action has probability zero"):
        TRPO()(SoftmaxTable(np.array([[0.0, 0.0], [0.0, -np.inf]])), batch.select([1]))


# Units: what the observations are measured in changes nothing.

LQR = envs.LQR()


def lqr_batch(policy, scale):
    batch = rollout(LQR, policy, n_episodes=25, seed=0)
    return replace(
        batch,
        states=scale * batch.states,
        next_states=scale * batch.next_states,
        start_states=scale * batch.start_states,
    )


@pytest.mark.parametrize(
    ("update", "rtol"),
    [
        (TRPO(gamma=LQR.gamma, epsilon=0.03), 1e-6),
        (TRPO(gamma=LQR.gamma, epsilon=0.03, damping=0.0), 1e-6),
        (NaturalGradient(gamma=LQR.gamma, epsilon=0.03), 1e-6),
        (NaturalGradient(gamma=LQR.gamma, epsilon=0.03, exact_fisher=False), 1e-6),
        (ENAC(gamma=LQR.gamma, epsilon=0.03), 1e-6),
        (ENAC(gamma=LQR.gamma, epsilon=0.03, ridge=0.0), 1e-6),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, float) else "",
)
def test_steps_do_not_depend_on_the_units_of_the_observations(update, rtol):
    policy = LinearGaussianPolicy().fit(np.eye(6, 3), np.eye(6, 3)[::-1])
    results = []
    for scale in (1.0, 1e-3, 1e4):
        weights = policy.params.copy()
        weights[:9] /= scale
        scaled = policy.with_params(weights)
        batch = lqr_batch(policy, scale)
        np.testing.assert_allclose(scaled.predict(batch.states), policy.predict(batch.states / scale), atol=1e-12)
        results.append(update(scaled, batch))
    for result in results[1:]:
        assert result.gain == pytest.approx(results[0].gain, rel=rtol)
        assert result.kl == pytest.approx(results[0].kl, rel=rtol)


def test_steps_of_a_network_do_not_depend_on_the_units_of_the_observations():
    batch = rollout(
        "Pendulum-v1", NeuralPolicy.from_env("Pendulum-v1", hidden=(16, 16), random_state=0), n_steps=400, seed=0
    )
    results = []
    for scale in (1.0, 1e-3):
        moved = replace(batch, states=scale * batch.states, next_states=scale * batch.next_states)
        spaces = gymnasium.spaces.Box(-np.inf, np.inf, (3,)), gymnasium.spaces.Box(-2, 2, (1,))
        policy = NeuralPolicy.from_spaces(*spaces, states=moved.states, hidden=(16, 16), random_state=0)
        results.append(TRPO()(policy, moved))
    assert results[1].gain == pytest.approx(results[0].gain, rel=1e-6)
    assert results[1].kl == pytest.approx(results[0].kl, rel=1e-6)
    assert 0.005 < results[0].kl_old_new <= 0.01


def test_the_status_of_a_rough_step_says_how_rough_it_is():
    policy = NeuralPolicy.from_env("Pendulum-v1", random_state=0)
    result = TRPO()(policy, rollout("Pendulum-v1", policy, n_steps=600, seed=0))
    assert "another solver" not in result.message
    assert result.solution.status is Status.CERTIFIED
    assert "certified to 5% of the gain" in result.message
    assert result.solution.certificate.gap <= 0.05


# Budgets


def test_several_budgets_are_kept_together(mdp, policy):
    costs = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])

    def paid(batch):
        return np.column_stack([costs[batch.states, batch.actions], batch.actions == 0])

    batch = sample_episodes(mdp, policy, 200, 20, np.random.default_rng(0))
    before = CPO(gamma=0.8, epsilon=0.01, budget=[1e3, 1e3], costs=paid)(policy, batch)
    expected = before.stats["expected_cost"]
    tight = CPO(gamma=0.8, epsilon=0.01, budget=expected + 0.02, costs=paid)(policy, batch)
    assert before.accepted
    assert tight.accepted
    assert np.all(tight.cost <= expected + 0.02)
    assert np.any(before.cost > expected + 0.02)
    assert tight.gain < before.gain
    assert tight.cost.shape == (2,)
    assert "cost_1" in tight.numbers()
    over = CPO(gamma=0.8, epsilon=0.01, budget=expected - 0.5, costs=paid)(policy, batch)
    assert np.sum(over.cost) < np.sum(expected)


def test_one_budget_is_one_of_several(mdp, policy):
    costs = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    batch = sample_episodes(mdp, policy, 200, 20, np.random.default_rng(0), costs)
    one, same = CPO(gamma=0.8, budget=2.0)(policy, batch), CPO(gamma=0.8, budget=[2.0])(policy, batch)
    np.testing.assert_array_equal(one.policy.params, same.policy.params)
    assert same.cost.tolist() == [one.cost]


def test_missing_costs_are_said():
    _, batch = impossible()
    policy = SoftmaxTable(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="CPO needs costs, and the batch holds none"):
        CPO(budget=1.0)(policy, batch)
    with pytest.raises(ValueError, match=r"costs must have shape \(4, 2\), one column a budget, got \(4,\)"):
        CPO(budget=[1.0, 2.0], costs=lambda batch: batch.rewards)(policy, batch)
    assert CPO(budget=1e3)(policy, replace(batch, costs=[1.0, 0, 0, 0])).accepted


@pytest.mark.parametrize("update", [TRPO(), NaturalGradient(epsilon=0.01), CPO(budget=1.0, costs=lambda b: b.rewards)])
def test_a_step_passes_all_states_through_the_old_network_once(update, monkeypatch):
    policy = NeuralPolicy.from_env("Pendulum-v1", hidden=(16, 16), random_state=0)
    batch = rollout("Pendulum-v1", policy, n_steps=400, seed=0)
    passes, forward = [], Network.forward
    monkeypatch.setattr(Network, "forward", lambda net, params, X: passes.append(len(X)) or forward(net, params, X))
    assert update(policy, batch).accepted
    assert passes.count(400) == 1


def test_policies_without_parameters_are_refused_by_name():
    _, batch = impossible()
    for update in (TRPO(), ENAC(), CPO(budget=1.0)):
        with pytest.raises(TypeError, match=f"{type(update).__name__} needs a policy with params, got None"):
            update(None, batch)


def test_the_old_name_of_lambda_is_deprecated():
    with pytest.warns(DeprecationWarning, match="trace is called gae_lambda now"):
        assert TRPO(trace=0.5).gae_lambda == 0.5
    with pytest.warns(DeprecationWarning, match="trace is called gae_lambda now"):
        assert RewardWeightedRegression(fit=LinearGaussianPolicy(), epsilon=0.1, trace=0.5).gae_lambda == 0.5
    one = np.ones((1, 1))
    with pytest.warns(DeprecationWarning, match="trace is called lstd_lambda now"):
        natural_actor_critic(one, one, one, [1.0], [True], [False], 0.5, trace=0.5)
    assert replace(TRPO(gae_lambda=0.3), gamma=0.5).gae_lambda == 0.3


def test_parameters_that_do_all_but_the_same_hardly_move_against_each_other():
    """Their difference has a twenty-thousandth of their sum's curvature, which five hundred states say little of."""
    rng = np.random.default_rng(2)
    first = rng.normal(size=500)
    states = np.column_stack([first, first + 0.01 * rng.normal(size=500)])
    batch = SimpleNamespace(states=states, actions=np.zeros(500), rewards=np.zeros(500))
    step = fisher_step(LinearGaussian([0.0, 0.0], 0.0), batch, np.array([1.0, 0.0, 0.0]), 1e-4).direction
    assert abs(step[0] - step[1]) < 2500 * abs(step[0] + step[1])


@pytest.mark.parametrize(("size", "method"), [(1000, "cholesky"), (1001, "cg")])
def test_fisher_matrices_are_factorised_up_to_a_thousand(size, method):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(size, size - 1))
    batch = SimpleNamespace(states=states, actions=np.zeros(size), rewards=np.zeros(size))
    policy = LinearGaussian(np.zeros(size - 1), 0.0)
    assert fisher_step(policy, batch, rng.normal(size=size), 0.01).solution.stats["method"] == method
