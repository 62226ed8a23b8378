"""The examples that learn a task with the improvement loop learn it, on a budget of seconds, and draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs


def test_reaching(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reaching = example("reaching")
    (trial,) = reaching.main(n_trials=1, n_iterations=8, n_evaluated=10, plot=str(tmp_path / "arm.png"))
    assert trial.curve.shape == (9,)
    assert trial.curve[-1] > trial.curve[0] + 0.5
    assert np.all(trial.curve < reaching.BEST)
    assert "published" in capsys.readouterr().out
    assert (tmp_path / "arm.png").stat().st_size > 10_000


def test_the_expected_reward_is_that_of_restarts(example: Any) -> None:
    """At rest the tip stays at (0, 2): every step costs the distance, whenever the restart comes."""

    def rest(state: Any, rng: Any) -> Any:
        return np.zeros(2)

    reward = example("harness").reward
    assert reward(envs.Reaching(), rest, 2) == pytest.approx(-4.25, rel=1e-6)
    assert reward(envs.PixelPuddleWorld(), rest, 2) == pytest.approx(-10.0, rel=1e-6)
    assert envs.Reaching().reset_probability > 0  # and the mean over restarted episodes is the same number
    swing, push = envs.SwingUp(), example("harness").random_actions(envs.SwingUp(), 60.0)
    restarted = example("harness").rollout(swing, push, 4000, seed=1).rewards.mean()
    assert reward(swing, push, 200) == pytest.approx(restarted, rel=0.02)


def test_pushing(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trial,) = example("pushing").main(n_trials=1, n_iterations=4, n_evaluated=20, plot=str(tmp_path / "push.png"))
    assert trial.curve[-1] > trial.curve[0] + 0.01
    assert "by hand" in capsys.readouterr().out
    assert (tmp_path / "push.png").stat().st_size > 10_000


def test_the_handwritten_pusher_brings_the_disc_home(example: Any) -> None:
    pushing, env = example("pushing"), envs.Pushing()
    assert pushing.distance(env, env.by_hand, 10) < 0.01
    rest = pushing.reward(env, lambda state, rng: np.zeros(2), 10)
    assert pushing.reward(env, env.by_hand, 10) > 0.5 * rest


@pytest.mark.slow
def test_puddle_pixels(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    puddles = example("puddle_pixels")
    (trial,) = puddles.main(n_trials=1, n_iterations=2, n_evaluated=5, first=100, plot=str(tmp_path / "puddle.png"))
    assert trial.curve[-1] > trial.curve[0] + 0.5
    assert np.all(trial.curve < puddles.KNOWN["planned"] + 0.1)
    assert "planned" in capsys.readouterr().out
    assert (tmp_path / "puddle.png").stat().st_size > 10_000


@pytest.mark.slow
def test_reps_on_gymnasium(example, capsys, tmp_path, monkeypatch):
    module, plot = example("reps_on_gymnasium"), str(tmp_path / "promises.png")
    for judged_by, n_episodes in (("N_EVALUATED", 10), ("N_EPISODES", 10)):
        monkeypatch.setattr(module, judged_by, n_episodes)
    returns = module.main(("CartPole-v1",), n_trials=1, seed=0, share=0.1, plot=plot)
    assert returns.shape == (1, 1, 6)
    assert returns.min() > 40  # random actions last 22 steps
    exploring, without = returns[0, 0, ::2], returns[0, 0, 1::2]
    assert (without > exploring).all()
    printed = capsys.readouterr().out
    assert "promised" in printed
    assert "after 5000, 2500, 5000 steps" in printed  # the last policy made no roll-outs, and was evaluated
    assert "0 of 1 at 475" in printed
    assert (tmp_path / "promises.png").stat().st_size > 10_000


@pytest.mark.slow
def test_promises_of_every_task_are_in_one_figure(example, capsys, tmp_path, monkeypatch):
    plot = tmp_path / "promises.png"
    tasks = example("reps_on_gymnasium").TASKS
    fit, n_updates, _, goal = tasks["CartPole-v1"]
    monkeypatch.setitem(tasks, "CartPole-v1", (fit, n_updates, {"n_steps": 600}, goal))
    monkeypatch.setattr(example("trpo_learning"), "POINTS", 2)
    histories = example("promises").main(
        ["CartPole-v1"], ["CartPole-v1", "Pendulum-v1"], seed=0, share=0.05, plot=str(plot)
    )
    assert list(histories) == ["REPS: CartPole-v1", "TRPO: CartPole-v1", "TRPO: Pendulum-v1"]
    for (history,), updates in zip(histories.values(), (2, 3, 5), strict=True):
        table = history.to_frame()
        assert len(table) == updates
        assert table["predicted_gain"].notna().all()
        assert (
            table["gain"][:-1].notna().all()
        )  # the roll-outs after each update tell, and after the last there are none
    assert "TRPO, CartPole-v1" in capsys.readouterr().out
    assert plot.stat().st_size > 10_000
