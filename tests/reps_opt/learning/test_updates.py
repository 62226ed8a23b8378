"""Updates on sampled batches: what they report is what they did."""

from types import SimpleNamespace

import numpy as np
import pytest

from reps_opt import CPO, MDP, TRPO, Factor, NaturalGradient, TrustRegionStep, VanillaGradient, solve
from reps_opt.exact_gradients import exact_gradient
from reps_opt.learning.advantages import estimate_advantages
from reps_opt.learning.gradients import mean_kl, surrogate_gradient
from reps_opt.solvers import Quadratic
from tests.reps_opt.step_fakes import LinearGaussian, SoftmaxTable, coin_mdp, sample_episodes

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
    assert result.kl == pytest.approx(mean_kl(policy, result.policy, batch.states))
    np.testing.assert_allclose(result.policy.params, before + result.fraction * result.solution.step)
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
    natural = NaturalGradient(gamma=0.8, step_size=0.1, damping=0.01)(policy, batch)
    np.testing.assert_allclose(natural.policy.params, 0.1 * np.linalg.solve(F + 0.01 * np.eye(6), g), rtol=1e-8)
    limited = NaturalGradient(gamma=0.8, step_size=1e3, epsilon=0.02)(policy, batch)
    assert limited.fraction == 1.0
    assert limited.solution.predicted_kl == pytest.approx(0.02)


def test_repeated_trpo_solves_the_mdp(mdp):
    policy, rng = SoftmaxTable(np.zeros((3, 2))), np.random.default_rng(3)
    update = TRPO(gamma=0.8, epsilon=0.05)
    for _ in range(25):
        result = update(policy, sample_episodes(mdp, policy, 100, 20, rng))
        assert result.kl <= 0.05
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
    assert result.fraction == pytest.approx(0.8 ** (result.trials - 1))
    assert result.kl <= 0.5 < mean_kl(policy, policy.with_params(policy.params + result.solution.step), states)


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
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
