"""What the examples that learn a task share: trials of one protocol, their scores and their table.

A trial starts from random actions and improves them iteration by iteration; it keeps one score of every policy and the
first and last record. Scores are expected rewards a step, exploration included unless said otherwise.
"""

import copy
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import make_pipeline

from policies import LinearGaussianPolicy
from reps_opt import Batch, Record, improve, rollout


class Trial(NamedTuple):
    """One trial: scores (iterations + 1,), the score without exploration, the first and last record, CPU seconds."""

    seed: int
    curve: np.ndarray
    steady: float
    first: Record
    last: Record
    seconds: float

    def line(self) -> str:
        """What the trial came to, and what the last update says of itself, in a line."""
        row, digits = self.last.row(), _digits(self.curve)
        return (
            f"trial {self.seed}: reward a step {self.curve[0]:.{digits}f} -> {self.curve[-1]:.{digits}f} "
            f"(without noise {self.steady:.{digits}f}), eta {row['eta']:.3g}, KL {row['kl_predicted']:.3f}, "
            f"gap {row['gap']:.1e}, ESS {row['ess']:.0f}, {self.seconds:.0f} s of CPU"
        )


def random_actions(env: Any, std: float) -> LinearGaussianPolicy:
    """Actions without regard to what is seen, N(0, std^2)."""
    start, acted = LinearGaussianPolicy.from_env(env), env.action_space.shape[0]
    return start.with_params(np.r_[np.zeros(start.params.size - acted), np.full(acted, np.log(std))])


def held_actions(env: Any, std: float, n_episodes: int, hold: int, seed: int) -> Batch:
    """Roll-outs of random actions that are held for some steps each: they get further than as many small pushes."""

    def act(state: Any, rng: np.random.Generator) -> Any:
        return rng.normal(0.0, std, env.action_space.shape)

    def roll_out(number: int) -> Batch:
        return rollout(env, act, n_episodes=1, hold=hold, seed=np.random.SeedSequence((seed, number)))

    return Batch.concatenate(roll_out(number) for number in range(n_episodes))


def waves(width: float, n: int, *before: Any) -> Callable[[Any], Any]:
    """Random Fourier features for a value function: waves everywhere, as bumps at states seen would leave holes.

    ``width`` is the length over which values change, in units of what the transformers ``before`` give.
    """

    def features(batch: Any) -> Any:
        return make_pipeline(*before, RBFSampler(gamma=0.5 / width**2, n_components=n, random_state=0)).fit(
            batch.states
        )

    return features


def reward(env: Any, policy: Any, n_episodes: int, **options: Any) -> float:
    """Expected reward a step, on fixed seeds.

    Where episodes restart by chance, the chance enters as its expectation, (1 - gamma) sum gamma^t r_t, with less noise
    than restarts bring; after the last hundredth of its weight, rewards are taken to stay what they are.
    """
    if env.reset_probability == 0:
        return float(rollout(env, policy, n_episodes, seed=0, **options).rewards.mean())
    endless, gamma = copy.copy(env), 1 - env.reset_probability
    endless.reset_probability, endless.horizon = 0.0, int(np.ceil(np.log(1e-2) / np.log(gamma)))
    mean = rollout(endless, policy, n_episodes, seed=0, **options).rewards.reshape(n_episodes, -1).mean(axis=0)
    discount = gamma ** np.arange(len(mean) + 1)
    return float((1 - gamma) * mean @ discount[:-1] + mean[-1] * discount[-1])


def study(
    env: Any,
    make_update: Callable[[Any], Any],
    start_std: float,
    known: Mapping[str, float],
    *,
    n_trials: int,
    n_iterations: int,
    n_evaluated: int,
    seed: int,
    jobs: int,
    learn_in: Any = None,
    first: int,
    hold: int = 1,
    **budget: Any,
) -> list[Trial]:
    """Run trials of consecutive seeds; print a line for each, then the scores by iteration beside what is known.

    Each begins with ``first`` roll-outs of random actions, held for ``hold`` steps each. Kept roll-outs stand for the
    current policy by importance weights. Scores are taken in ``env``, and roll-outs too, unless there is another
    environment to ``learn_in``.
    """

    def score(policy: Any, **how: Any) -> float:
        return reward(env, policy, n_evaluated, **how)

    def trial(seed: int) -> Trial:
        warnings.filterwarnings("ignore", "a good part of the predicted gain")  # kept roll-outs are no flow
        began, start, early = time.process_time(), random_actions(env, start_std), None
        begin = first if hold == 1 else held_actions(env, start_std, first, hold, seed)
        curve = [score(start)]
        how = {"seed": seed, "progress": False, "reuse": "importance", "first": begin, **budget}
        for record in improve(learn_in or env, start, make_update(env), n_iterations, **how):
            curve.append(score(record.policy))
            early = early or record
        steady = score(record.policy, deterministic=True)
        done = Trial(seed, np.array(curve), steady, early, record, time.process_time() - began)
        print(done.line(), flush=True)
        return done

    trials = Parallel(jobs)(delayed(trial)(seed + i) for i in range(n_trials))
    _report(trials, known)
    return trials


def over_seeds(learn: Callable[..., Any], *what: Any, n_seeds: int, jobs: int = 1) -> tuple[list[Any], float]:
    """What ``learn(*what, seed)`` gives for each seed, and the CPU seconds it took, those of other processes aside."""
    began = time.process_time()
    found = Parallel(jobs)(delayed(learn)(*what, seed) for seed in range(n_seeds))
    return found, time.process_time() - began


MILESTONES = f"{'start':>9}{'half':>9}{'last':>9}{'std':>8}{'worst':>9}"


def milestones(curves: np.ndarray, digits: int = 3) -> str:
    """The columns of MILESTONES for curves (seeds, updates + 1): means on the way; of the last, their spread."""
    start, half, last = curves[:, 0].mean(), curves[:, (curves.shape[1] - 1) // 2].mean(), curves[:, -1]
    means = f"{start:>9.{digits}f}{half:>9.{digits}f}{last.mean():>9.{digits}f}"
    return f"{means}{last.std():>8.{digits}f}{last.min():>9.{digits}f}"


def _report(trials: list[Trial], known: Mapping[str, float]) -> None:
    curves, steady = np.array([t.curve for t in trials]), np.array([t.steady for t in trials])
    digits = _digits(curves)
    print(f"\n{'iteration':<22}{'mean':>9}{'std':>8}{'median':>9}{'worst':>9}   over {len(trials)} trials")
    rows = {str(i): curves[:, i] for i in sorted({*range(0, len(curves[0]), 5), len(curves[0]) - 1})}
    for name, at in {**rows, "without noise": steady}.items():
        numbers = f"{at.mean():>9.{digits}f}{at.std():>8.{digits}f}{np.median(at):>9.{digits}f}{at.min():>9.{digits}f}"
        print(f"{name:<22}{numbers}")
    for name, figure in known.items():
        print(f"{name:<22}{figure:>9.{digits}f}")


def _digits(curve: np.ndarray) -> int:
    """Decimals to print: three of rewards below one."""
    return 3 if abs(np.mean(curve[..., -1])) < 1 else 2
