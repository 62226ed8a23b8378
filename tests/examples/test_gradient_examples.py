"""The examples of gradient methods learn, on a budget of seconds, and say the numbers that they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.slow
def test_nac_cart_pole(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "pole.png"
    runs = example("nac_cart_pole").main(n_seeds=1, n_updates=10, plot=str(plot))
    by_critic, plain = runs["NAC, LSTD-Q(λ)"], runs["vanilla (REINFORCE)"]
    assert by_critic.shape == (1, 11)
    assert np.all(by_critic[:, -1] > -4.2)  # the best gains reach -3.80
    assert np.all(by_critic[:, -1] > plain[:, -1])
    assert "-82.2" in capsys.readouterr().out
    assert plot.stat().st_size > 10_000


def test_the_policy_of_gains_has_the_score_and_fisher_matrix_of_its_density(example: Any) -> None:
    module, rng = example("gains"), np.random.default_rng(0)
    policy, states = module.start_policy(0, module.envs.CartPole()), rng.normal(size=(50_000, 4))
    actions = policy.sample(states, rng)
    h, direction = 1e-4, rng.normal(size=4)

    def log_prob(gains: Any) -> Any:
        return policy.with_params(gains).log_prob(states, actions)

    slope = (log_prob(policy.params + h * direction) - log_prob(policy.params - h * direction)) / (2 * h)
    scores = policy.score_function(states, actions)
    np.testing.assert_allclose(scores @ direction, slope, rtol=1e-5, atol=1e-6)
    fisher = policy.fisher_factor(states).T @ policy.fisher_factor(states) / len(states)
    np.testing.assert_allclose(scores.T @ scores / len(states), fisher, atol=5e-3)
    other = policy.with_params(policy.params + h * direction)
    quadratic = 0.5 * h**2 * direction @ fisher @ direction
    assert policy.kl_divergence(other, states).mean() == pytest.approx(quadratic, rel=1e-6)


@pytest.mark.slow
def test_trpo_evaluation(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ("torch", "cma"):
        pytest.importorskip(extra)
    module, plot = example("trpo_evaluation"), tmp_path / "evaluation.png"
    curves = module.main(tasks=["CartPole-v1"], n_seeds=1, n_steps=4_000, plot=str(plot))
    assert {method for _, method in curves} == set(module.METHODS)
    last = {method: curve[0, -1] for (_, method), curve in curves.items()}
    assert min(last["TRPO"], last["CEM"], last["CMA-ES"]) > 30  # random actions last 22 steps
    assert "s of CPU" in capsys.readouterr().out
    assert plot.stat().st_size > 10_000


def test_gae_lambda(example: Any, tmp_path: Path) -> None:
    for extra in ("torch", "cma", "mujoco"):
        pytest.importorskip(extra)
    plot = tmp_path / "lambda.png"
    curves = example("gae_lambda").main(lambdas=[0.0, 0.95], n_seeds=1, n_steps=4_000, plot=str(plot))
    assert np.all(curves["Hopper-v5", "lambda 0.95"][:, -1] > 20)
    assert plot.stat().st_size > 10_000


def test_a_curve_is_the_mean_of_the_last_twenty_episodes(example: Any) -> None:
    pytest.importorskip("cma")
    module = example("learning_curves")
    found = [(10 * (i + 1), float(i)) for i in range(48)]
    curve = module.curve(found, 480)
    assert curve.shape == (module.GRID,)
    np.testing.assert_allclose(curve[[0, 1, -1]], [0.5, 1.5, np.arange(28, 48).mean()])


def test_the_searches_climb_a_hill(example: Any) -> None:
    """On CartPole a linear network is enough; both searches soon hold the pole far longer than at random."""
    for extra in ("torch", "cma"):
        pytest.importorskip(extra)
    module, start = example("learning_curves"), example("trpo_evaluation").start_policy("CartPole-v1", 0)
    for covariance in (False, True):
        found = module.by_episodes("CartPole-v1", start, covariance, seed=0, n_steps=8_000)
        assert np.mean([returns for _, returns in found[-20:]]) > 2 * np.mean([returns for _, returns in found[:20]])
