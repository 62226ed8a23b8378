"""Bandwidths of value features, chosen by the Bellman error on transitions that were not seen.

Shapes: N transitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reps_opt.batch import Batch
from reps_opt.features import as_columns, feature_differences, kernel_features, median_bandwidth
from reps_opt.problems.sample_solution import SampleSolution
from reps_opt.problems.samples import SampleREPS
from reps_opt.solving import solve
from reps_opt.validation import as_count


def cross_validated_bandwidth(
    batch: Batch,
    gamma: float,
    epsilon: float = 0.5,
    factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    n_features: int = 50,
    n_folds: int = 3,
    seed: int = 0,
) -> float:
    r"""Bandwidth whose value function leaves the least Bellman error on transitions that REPS did not see.

    For each multiple of the median distance: solve REPS on all folds but one, a little ridge for folds whose features
    do not quite match, and measure on the held-out fold the variance of ``delta = r + psi' theta``, its mean being the
    free offset of V. Transitions are dealt to folds one by one.

    Returns
    -------
    float
        The bandwidth, in state units.
    """
    fold = np.random.default_rng(seed).permutation(len(batch)) % as_count(n_folds, "n_folds", low=2)
    unit = median_bandwidth(as_columns(batch.states))
    ridge = 1e-3 / max(float(np.ptp(batch.rewards)), 1e-12)
    errors = []
    for factor in factors:
        psi = feature_differences(batch, kernel_features(batch, n_features, factor * unit, seed), gamma)
        error = 0.0
        for k in range(n_folds):
            seen = fold != k
            solution = solve(SampleREPS(batch.rewards[seen], psi[seen], epsilon, ridge=ridge))
            assert isinstance(solution, SampleSolution)
            error += float(np.var(batch.rewards[~seen] + psi[~seen] @ solution.theta)) / n_folds
        errors.append((error, factor * unit))
    return min(errors)[1]
