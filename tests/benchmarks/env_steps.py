"""Steps a second: our swing-up, one state or many at once, beside Gymnasium's Pendulum stepped singly.

Run it as a script, on one thread: ``OMP_NUM_THREADS=1 python tests/benchmarks/env_steps.py``. Rates are medians over
repetitions, in CPU time. The accuracy is the largest difference between batched steps and the same steps taken singly.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np

import envs
from policies import GaussianProcessPolicy
from reps_opt import rollout
from tests.benchmarks.comparison import Row, show, versions

BATCHES = (10, 100, 1000, 10_000)
REPEATS = 7
SECONDS = 0.2  # of CPU, for each repetition


def rate(advance: Callable[[], int], seconds: float, repeats: int) -> float:
    """Steps per CPU second: the median over repetitions, after one call to warm up."""
    advance()
    rates = []
    for _ in range(repeats):
        steps, started = 0, time.process_time()
        while (elapsed := time.process_time() - started) < seconds or steps == 0:
            steps += advance()
        rates.append(steps / max(elapsed, 1e-9))
    return statistics.median(rates)


def single(env: gymnasium.Env) -> Callable[[], int]:
    """Advance a Gymnasium environment by one step, starting again when an episode ends."""
    env.reset(seed=0)
    action = np.array([1.0])

    def advance() -> int:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
        return 1

    return advance


def batched(env: envs.BatchedEnv, n: int) -> Callable[[], int]:
    """Advance n states at once, as a roll-out does: step, observe, draw cuts, start again where an episode was cut."""
    rng = np.random.default_rng(0)
    states, actions = env.sample_starts(n, rng), np.ones((n, 1))

    def advance() -> int:
        nonlocal states
        states = env.step_batch(states, actions, rng).next_states
        env.observe(states)
        cut = env.sample_cuts(n, rng)
        states[cut] = env.sample_starts(int(cut.sum()), rng)
        return n

    return advance


def disagreement(env: envs.BatchedEnv, n: int) -> float:
    """Largest difference between one batched step of n states and the same steps taken one by one."""
    rng = np.random.default_rng(1)
    states, actions = env.sample_starts(n, rng), rng.uniform(-30, 30, (n, 1))
    together = env.step_batch(states, actions, rng).next_states
    alone = [env.step_batch(states[i : i + 1], actions[i : i + 1], rng).next_states[0] for i in range(n)]
    return float(np.abs(together - np.array(alone)).max())


def rolled(env: envs.BatchedEnv | str, policy: Any, n_episodes: int) -> Callable[[], int]:
    """A whole roll-out: policy, steps, and the batch that comes of them."""
    return lambda: len(rollout(env, policy, n_episodes=n_episodes, seed=0))


def fitted(env: envs.BatchedEnv | str, n_episodes: int) -> GaussianProcessPolicy:
    """A Gaussian process policy of some thousand samples of the environment."""
    batch = rollout(env, n_episodes=n_episodes, seed=1)
    return GaussianProcessPolicy(max_iter=2, random_state=0).fit(batch.states, batch.actions)


def measure(seconds: float = SECONDS, repeats: int = REPEATS, batches: Sequence[int] = BATCHES) -> Iterator[Row]:
    """A row an environment and batch; the cost is that of one step of one state."""
    envs.register()
    peer = 1 / rate(single(gymnasium.make("Pendulum-v1")), seconds, repeats)
    beside = {"peer": "Gymnasium's Pendulum, one at a time", "peer_cost": peer, "peer_accuracy": "its own dynamics"}

    def row(name: str, batch: int, advance: Callable[[], int], accuracy: str, accurate: bool = True) -> Row:
        cost = 1 / rate(advance, seconds, repeats)
        return Row(f"steps of {name}", f"{batch:,} at once", batch, cost, accuracy, accurate, **beside)

    yield row("Pendulum-v1, unwrapped", 1, single(gymnasium.make("Pendulum-v1").unwrapped), "its own dynamics")
    yield row("SwingUp-v0, gymnasium.make", 1, single(gymnasium.make("reps_opt/SwingUp-v0")), "one state")
    yield row("SwingUp-v0, unwrapped", 1, single(envs.SwingUp()), "one state")
    for env in (envs.SwingUp(), envs.SwingUp(integrator="rk4"), envs.PixelSwingUp()):
        kind = type(env).__name__ + (", rk4" if "rk4" in env.integrator else "")
        for n in batches:
            off = disagreement(env, min(n, 1000))
            yield row(kind, n, batched(env, n), f"differs from single steps by {off:g}", off == 0)
    yield from rollouts(row, max(batches))


def rollouts(row: Callable[..., Row], largest: int) -> Iterator[Row]:
    """Rows of whole roll-outs, by a policy's own code: batched where states come in batches, compiled where singly."""
    swing, n = envs.SwingUp(), min(largest, 1000)
    for name, policy in (("uniform actions", None), ("GP policy", fitted(swing, 40))):
        off = replayed(swing, policy, n)
        advance = rolled(swing, policy, n)
        yield row(f"roll-outs of SwingUp, {name}", n, advance, f"differs from a replay by {off:g}", off == 0)
    compiled = fitted("Pendulum-v1", 10)
    yield row("roll-outs of Pendulum-v1, compiled GP policy", 1, rolled("Pendulum-v1", compiled, 2), "its own dynamics")


def replayed(env: envs.BatchedEnv, policy: Any, n_episodes: int) -> float:
    """Largest difference between recorded next states and those of the recorded states and actions stepped again."""
    batch = rollout(env, policy, n_episodes=n_episodes, seed=0)
    again = env.step_batch(batch.states, batch.actions, np.random.default_rng(0))
    return float(np.abs(again.next_states - batch.next_states).max())


def rows(quick: bool = False) -> Iterator[Row]:
    """The rows of the table."""
    return measure(0.01, 1, (10, 100)) if quick else measure()


def main(seconds: float = SECONDS, repeats: int = REPEATS, batches: Sequence[int] = BATCHES) -> list[Row]:
    """Print the table."""
    print(f"Python {platform.python_version()}, {versions('numpy', 'gymnasium')}; cost is that of one step")
    return show(measure(seconds, repeats, batches))


if __name__ == "__main__":
    main()
