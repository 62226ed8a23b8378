"""Flows of batches by how episodes begin and end, judged against exact MDPs and long simulations."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import FunctionTransformer

from reps_opt import MDP, Batch, SampleREPS, Status, solve
from reps_opt.problems.sample_flow import batch_gamma, recording_rate, sample_flow

GAMMA = 0.9


class OneHot:
    """Indicators of integer states; the exit, which is beyond all of them, has none."""

    def __init__(self, n_states):
        self.n_states = n_states

    def transform(self, states):
        return np.eye(self.n_states + 1)[np.asarray(states)][:, : self.n_states]


def corridor(n_episodes, horizon, seed=0, n_states=4, exits=True):
    """A walk that starts in the middle, right with probability .6; beyond the right end it is over, and costs one a
    step until then."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n_episodes):
        s = n_states // 2
        for t in range(horizon):
            a = int(rng.random() < 0.6)
            following = s + 1 if a else max(s - 1, 0)
            if not exits:
                following = min(following, n_states - 1)
            over = following == n_states
            rows.append((s, a, -1.0 + 0.3 * s, following, over, not over and t + 1 == horizon, number))
            s = following
            if over:
                break
    states, actions, rewards, following, over, cut, episode = (np.array(column) for column in zip(*rows, strict=True))
    return Batch(states, actions, rewards, following, terminated=over, truncated=cut, episode=episode)


def exact_return(n_states=4, gamma=GAMMA):
    """(1 - gamma) times the discounted return from the middle, by a linear solve of the absorbing chain."""
    P = np.zeros((n_states, n_states))
    for s in range(n_states):
        P[s, max(s - 1, 0)] += 0.4
        if s + 1 < n_states:
            P[s, s + 1] += 0.6
    value = np.linalg.solve(np.eye(n_states) - gamma * P, -1.0 + 0.3 * np.arange(n_states))
    return (1 - gamma) * value[n_states // 2]


@pytest.mark.parametrize("starts", ["episodes", "visited"])
def test_absorption_makes_the_base_a_flow_exactly(starts):
    flow = sample_flow(corridor(50, 10_000), OneHot(4), GAMMA, "absorb", starts)
    assert flow.absorbs
    assert flow.rewards[-1] == 0
    assert flow.base.sum() == pytest.approx(1)
    assert np.abs(flow.base @ flow.differences).max() < 1e-12  # every episode's sum telescopes


def test_absorbed_mass_makes_the_objective_the_discounted_return():
    batch = corridor(4_000, 10_000)
    mean, error = sample_flow(batch, OneHot(4), GAMMA, "absorb", "episodes").mean(batch.rewards)
    assert abs(mean - exact_return()) < 3 * error
    assert error < 0.02 * abs(mean)


def test_the_absorbing_row_is_what_the_formula_says():
    batch = corridor(20, 10_000)
    flow = sample_flow(batch, OneHot(4), GAMMA, "absorb", "episodes")
    weight = GAMMA**batch.time
    absorbed = (weight * batch.terminated).sum() * GAMMA / (1 - GAMMA)  # gamma^T_e: one more than the last row's time
    total = weight.sum() + absorbed
    assert flow.base == pytest.approx(np.append(weight, absorbed) / total)
    start = np.append(OneHot(4).transform(batch.start_states).mean(axis=0), 0.0)
    assert flow.differences[-1] == pytest.approx((1 - GAMMA) * (start - np.eye(5)[4]))


@pytest.mark.parametrize("on_done", ["absorb", "restart"])
def test_a_time_limit_leaves_gamma_to_the_t_and_an_error_that_vanishes_with_it(on_done):
    errors = []
    for horizon in (10, 20, 40):
        batch = corridor(400, horizon, exits=False)
        flow = sample_flow(batch, OneHot(4), GAMMA, on_done, "episodes")
        assert flow.base * (1 / flow.base[0]) == pytest.approx(GAMMA**batch.time)
        errors.append(np.abs(flow.base @ flow.differences).max())
    assert errors[1] < 2 * GAMMA**10 * errors[0]
    assert errors[2] < 2 * GAMMA**20 * errors[1]


def test_random_restarts_leave_even_weights():
    rng = np.random.default_rng(0)
    cut = rng.random(6_000) > GAMMA
    batch = Batch(np.zeros(6_000, int), np.zeros(6_000), rng.normal(size=6_000), np.zeros(6_000, int), restarted=cut)
    assert recording_rate(batch, GAMMA) == GAMMA
    assert recording_rate(batch, 0.99) == pytest.approx(0.9, abs=0.02)
    flow = sample_flow(batch, OneHot(1), GAMMA, starts="episodes")
    assert np.ptp(flow.base) < 1e-15
    assert batch_gamma(batch) == pytest.approx(GAMMA, abs=0.02)


def test_visited_starts_are_the_starts_where_the_base_is_their_flow_already():
    """For a batch made of a discounted visit distribution, the two say the same up to sampling."""
    batch = corridor(3_000, 10_000)
    weight = GAMMA**batch.time
    one = sample_flow(batch, OneHot(4), GAMMA, "absorb", "episodes")
    other = sample_flow(batch, OneHot(4), GAMMA, "absorb", "visited", base_weights=weight)
    assert other.base == pytest.approx(one.base)
    assert other.differences == pytest.approx(one.differences, abs=1e-12)


def test_the_process_begins_where_episodes_do_unless_a_limit_alone_ends_them():
    ended, limited = corridor(5, 10_000), corridor(5, 20, exits=False)
    cut = Batch(np.zeros(4, int), np.zeros(4), np.ones(4), np.zeros(4, int), restarted=[False, True, False, True])
    assert [sample_flow(b, OneHot(4), 0.9).starts for b in (ended, cut, limited)] == ["episodes", "episodes", "visited"]
    assert sample_flow(ended, OneHot(4), 1.0).starts == "visited"  # an average reward knows no start


def test_gamma_from_the_batch():
    assert batch_gamma(corridor(5, 20, exits=False)) == pytest.approx(1 - 1 / 20)
    assert batch_gamma(corridor(5, 1_000, exits=False)) == pytest.approx(0.99)
    assert batch_gamma(corridor(5, 10_000)) == pytest.approx(0.99)
    problem = SampleREPS.from_batch(corridor(5, 20, exits=False), OneHot(4))
    assert problem.flow.gamma == pytest.approx(0.95)
    assert problem.flow.on_done == "absorb"
    assert sample_flow(corridor(5, 9), OneHot(4), 1.0).on_done == "restart"


def test_a_task_that_pays_one_a_step_has_something_to_gain_by_absorption_only():
    batch = corridor(60, 10_000)
    paid = Batch(
        batch.states, batch.actions, np.ones(len(batch)), batch.next_states, None, batch.terminated, None, batch.episode
    )
    absorbed = solve(SampleREPS.from_batch(paid, OneHot(4), 0.3, gamma=GAMMA, starts="visited"))
    restarted = solve(SampleREPS.from_batch(paid, OneHot(4), 0.3, gamma=GAMMA, on_done="restart"))
    assert absorbed.predicted_gain > 0.1
    assert abs(restarted.predicted_gain) < 1e-12
    weights = absorbed.weights("sum")
    assert weights.shape == (len(batch),)
    assert weights.sum() == pytest.approx(1)
    right = batch.actions == 1
    assert weights[right].sum() < right.mean()  # to the left, away from the exit
    value = absorbed.value(np.arange(4))
    assert (np.diff(value) < 0).all()
    assert (value > 0).all()  # the absorbing state is worth nothing


def test_the_offset_tells_of_a_reference_that_is_no_flow():
    batch = corridor(50, 30, exits=False)
    even = {"gamma": 0.5, "starts": "episodes", "base_weights": 0.5 ** -batch.time.astype(float)}
    wrong = solve(SampleREPS.from_batch(batch, OneHot(4), 0.3, **even))
    problem = wrong.problem
    psi = sample_flow(batch, OneHot(4), **even).differences
    assert np.ptp(problem.base) < 1e-12
    assert wrong.flow_offset == pytest.approx(wrong.theta @ (problem.base @ psi), rel=1e-6)
    assert abs(wrong.flow_offset) > 0.05 * wrong.predicted_gain
    matched = psi @ wrong.theta - problem.base @ psi @ wrong.theta
    by_episode = [(problem.base * matched)[batch.episode == e].sum() for e in np.unique(batch.episode)]
    assert wrong.flow_offset_error == pytest.approx(np.linalg.norm(by_episode), rel=1e-6)
    right = solve(SampleREPS.from_batch(batch, OneHot(4), 0.3, gamma=0.5))
    assert abs(right.flow_offset) < 1e-9


@pytest.mark.parametrize("starts", ["episodes", "visited"])
@pytest.mark.parametrize("on_done", ["absorb", "restart"])
def test_the_error_of_a_promise_is_its_spread_over_batches(starts, on_done):
    """A hundred batches of 40 episodes: their promises scatter as each says of itself."""
    gains, errors = [], []
    for seed in range(100):
        batch = corridor(40, 25, seed)
        solution = solve(SampleREPS.from_batch(batch, OneHot(4), 0.1, gamma=GAMMA, on_done=on_done, starts=starts))
        assert solution.status == Status.CERTIFIED
        gains.append(solution.predicted_gain)
        errors.append(solution.predicted_gain_error)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.3)


def test_the_error_of_independent_samples_is_the_textbook_one():
    rng = np.random.default_rng(0)
    solution = solve(SampleREPS(rng.normal(size=300), rng.normal(size=(300, 2)), epsilon=0.4))
    w, r = solution.sample_weights, solution.problem.rewards
    influence = solution.eta * (300 * w - 1) - (r - r.mean())
    assert solution.predicted_gain_error == pytest.approx(np.sqrt(np.mean(influence**2) / 300))


def test_predicted_gains_of_an_exact_problem():
    """Each pair once, weighted by its occupancy: the gain is the exact one."""
    P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9]]])
    mdp = MDP(P, [[0.0, 1.0], [2.0, 0.5]], gamma=GAMMA, mu0=[1.0, 0.0])
    q = mdp.occupancy(mdp.uniform_policy())
    psi = GAMMA * mdp.transitions.toarray() + (1 - GAMMA) * mdp.mu0 - np.repeat(np.eye(2), 2, axis=0)
    solution = solve(SampleREPS(mdp.rewards.ravel(), psi, 0.1, base_weights=q.ravel()))
    assert solution.predicted_gain == pytest.approx(solution.objective - (q * mdp.rewards).sum(), abs=1e-9)
    assert abs(solution.flow_offset) < 1e-9


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"on_done": "stop"}, "on_done must be one of"),
        ({"starts": "here"}, "starts must be one of"),
        ({"on_done": "absorb", "gamma": 1.0}, "needs gamma < 1"),
        ({"base_weights": np.zeros(9)}, "base_weights must have shape"),
    ],
)
def test_bad_words(changes, match):
    with pytest.raises(ValueError, match=match):
        SampleREPS.from_batch(corridor(3, 5), FunctionTransformer(), **{"gamma": 0.9, **changes})
