"""Random hard problems, drawn by Hypothesis: never a wrong answer, never an exception, and what must not matter."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from reps_opt import MDP, Batch, EpisodicREPS, SampleREPS, Status, solve
from tests.hard.recipes import Recipe, SampleData, sample_data
from tests.hard_inputs import BAD, conic, main, verdict_on
from tests.strategies import PROBLEMS, SEEDS, batches, mdps, weights

CALM = settings(
    derandomize=True, database=None, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck)
)
"""The same examples every time: what is random belongs to ``python -m tests.hard_inputs``."""


@pytest.mark.parametrize("family", PROBLEMS)
def test_no_answer_is_wrong_and_nothing_raises(family):
    @CALM
    @given(PROBLEMS[family])
    def check(recipe: Recipe) -> None:
        verdict, _ = verdict_on(recipe)
        assert verdict.kind not in BAD, verdict
        assert verdict.kind != "uncertified" or "gap" in verdict.reason or "residual" in verdict.reason

    check()


@settings(CALM, max_examples=200)
@given(mdps(), SEEDS)
def test_occupancy_and_value_of_any_mdp(mdp: MDP, seed: int) -> None:
    """The flow holds, and the mean reward is that of the value where the scales leave digits for it."""
    policy = np.random.default_rng(seed).dirichlet(np.ones(mdp.n_actions), mdp.n_states)
    p = mdp.occupancy(policy)
    assert p.min() >= 0
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    flow = p.sum(axis=1) - (1 - mdp.gamma) * mdp.mu0 - mdp.gamma * mdp.transitions.T @ p.ravel()
    assert np.abs(flow).sum() <= 1e-12
    if mdp.gamma < 1:
        largest = np.abs(mdp.rewards).max()
        expected = (1 - mdp.gamma) * mdp.mu0 @ mdp.value(policy)
        assert np.sum(p * mdp.rewards) == pytest.approx(expected, abs=1e-11 * largest)


@settings(CALM, max_examples=200)
@given(batches())
def test_batches_come_back_from_a_file_and_from_their_episodes(batch: Batch) -> None:
    assert batch.returns.sum() == pytest.approx(batch.rewards.sum())
    parts = [batch.select_episodes([i]) for i in range(batch.n_episodes)]
    joined = Batch.concatenate(parts)
    np.testing.assert_array_equal(joined.states, batch.states)
    np.testing.assert_array_equal(joined.start_states, batch.start_states)
    np.testing.assert_array_equal(joined.episode, np.unique(batch.episode, return_inverse=True)[1])


def solved(data: SampleData, epsilon: float) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if data.features is None:
            return solve(EpisodicREPS(data.rewards, None, epsilon, data.base))
        return solve(SampleREPS(data.rewards, data.features, epsilon, data.base, data.ridge))


EASY = st.builds(
    Recipe,
    family=st.sampled_from(["samples", "episodic"]),
    seed=SEEDS,
    size=st.integers(20, 60),
    width=st.integers(1, 3),
    structure=st.just("normal"),
    rewards=st.sampled_from(["normal", "ties"]),
    reference=st.just("random"),
    epsilon=st.floats(0.2, 1.0),
    option=st.sampled_from(["", "ridge"]),
)


@settings(CALM, max_examples=100)
@given(EASY, st.data())
def test_what_must_not_matter_to_weights(recipe: Recipe, draw: st.DataObject) -> None:
    """Order, duplicates as base weights, units of rewards, of features and of base weights."""
    data = sample_data(recipe)
    first = solved(data, recipe.epsilon)
    if first.status is not Status.CERTIFIED:  # type: ignore[attr-defined]
        return
    w, n = first.weights("sum"), data.rewards.size  # type: ignore[attr-defined]
    rng = np.random.default_rng(recipe.seed)

    def weights_of(**changes: object) -> np.ndarray:
        return solved(data._replace(**changes), recipe.epsilon).weights("sum")  # type: ignore[attr-defined]

    def features(rows: object = slice(None), scale: object = 1.0) -> object:
        return None if data.features is None else data.features[rows] * scale

    order = rng.permutation(n)
    shuffled = weights_of(rewards=data.rewards[order], features=features(order), base=data.base[order])
    np.testing.assert_allclose(shuffled, w[order], atol=1e-8)
    twice = np.append(np.arange(n), 0)
    doubled = weights_of(rewards=data.rewards[twice], features=features(twice), base=data.base[twice])
    heavier = data.base.copy()
    heavier[0] *= 2
    merged = weights_of(base=heavier)
    np.testing.assert_allclose(np.append(doubled[0] + doubled[-1], doubled[1:-1]), merged, atol=1e-8)
    np.testing.assert_allclose(weights_of(base=7 * data.base), w, atol=1e-9)
    a, b = 10 ** rng.uniform(-6, 6), rng.normal()
    moved = weights_of(rewards=a * (data.rewards + b), ridge=data.ridge / a)
    np.testing.assert_allclose(moved, w, atol=1e-7)
    if not data.ridge:
        scale = 10 ** rng.uniform(-6, 6, size=recipe.width)
        np.testing.assert_allclose(weights_of(features=features(scale=scale)), w, atol=1e-7)
    even = draw.draw(weights(n))
    assert weights_of(base=even).sum() == pytest.approx(1.0) or recipe.family == "samples"


def test_the_command_prints_a_row_a_family(capsys):
    assert main(20, 0, list(PROBLEMS), verbose=False, ask_conic=True) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*PROBLEMS, "certified", "wrong", "checked by"))
    assert io.StringIO(text).readline().startswith("family")
    assert "hard_inputs" in (Path(__file__).parent / "hard_inputs.py").read_text(encoding="utf-8")


def test_a_conic_solver_is_asked_in_its_own_words() -> None:
    """It gets an ordinary problem in ten seconds, and none in no time."""
    recipe = Recipe("reps", 1, 4, 2, "dense", "normal", "policy", 0.2)
    assert conic(recipe, 1.0) == "primal"
    assert conic(recipe, 0.0) == ""
