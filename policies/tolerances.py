"""All numbers of the policies that decide something, each with its reason: a source, a measurement, or a trade-off.

What an estimator's user may want to set is a parameter of its own. Sizes that tell something from nothing, whoever
asks, are those of :mod:`reps_opt.tolerances`.
"""

from __future__ import annotations

import numpy as np

from reps_opt.tolerances import HUGE, TINY

# Distributions over actions

IMPOSSIBLE = TINY * HUGE
"""Probability below which a softmax's is zero: the logit of what is impossible is log(TINY), and a step that moves the
others by less than log(HUGE) leaves it so."""

# Noise of an action around its mean

LOG_NOISE_MEAN = float(np.log(0.1))
"""Mean of a weak log-normal prior on the ratio of the noise to the prior variance of the mean: without it, features or
kernels that can interpolate a handful of samples lose the noise altogether."""

LOG_NOISE_STD = 2.0
"""Standard deviation of that prior, in nats."""

# Where and how wide features are

UNBOUNDED = 1e6
"""Bounds farther out than this only say what the dtype can hold: CartPole's speeds are "bounded" by 3.4e38."""

TYPICAL_STATES = 512
"""Typical states that features are placed by."""

TYPICAL_NUMBERS = 2**20
"""How many numbers these may be: fewer states for images."""

BANDWIDTHS = 2.0 ** np.arange(-5, 3)
"""Bandwidths tried, in units of sqrt(d) weighted standard deviations."""


# Gains of a softmax

PRIOR_SHAPE = 1.5
"""Shape of a Gamma prior on the ridge of gains, whose mean is 30. The evidence alone is monotone where a line separates
the labels, and where they have no pattern: the policy would be deterministic, or the ridge infinite."""

PRIOR_RATE = 0.05
"""Rate of that prior: with the shape, what makes its mean 30."""

RIDGE_ACCURACY = 0.02
"""Change of log ridge at which the search ends: off by two hundredths costs the evidence 1e-4 of a nat a gain."""

ROUGH_DECREMENT = 1e-4
"""The same at which the ridge can be judged."""

# Gaussian processes

EXACT_SAMPLES = 1000
"""Samples up to which "auto" is exact."""

TRAINING_SAMPLES = 4000
"""Samples on which the variational bound is maximised; all of them enter the posterior."""

ARD_DIMENSIONS = 20
"""State dimensions up to which the default kernel has a length-scale for each."""

SHRINKS = (1.0, 4.0, 16.0)
"""What starting length-scales of the default kernel are divided by: the best one is climbed from. With 8 for 16, twenty
periods among 400 samples are taken for noise."""

LOG_PRIOR_STD = np.sqrt(3.0)
"""Standard deviation of log length-scales a priori: that of Hvarfner, Hellsten and Nardi (2024), section 4.2."""

# Networks

PRIOR_PRECISION = 4.0
"""Precision of the prior: of .4 to 20, least error on sines in 1 to 6 dimensions, 20 to 400 samples, noise .1 to 1."""

PRECONDITIONER_SAMPLES = 256
"""States, at least, that Kronecker factors are averaged over: more sharpen them less than their time would buy."""

NETWORK_CHUNK = 256
"""Samples whose activations are worked on at a time. With half of it a Fisher product takes an eighth longer for hidden
layers of 256 in single precision (17.7 ms for 15.6 over 4,000 states), and a sixth less for layers of 64 in double (3.8
for 4.5 over 5,000, which take 5.5 at once); with twice as many it takes as long."""

CURVATURE_FLOOR = 1e-7
"""Share of the largest curvature that a Kronecker factor's smaller ones are taken to be at least: what is below is
rounding in single precision, and may be negative. A fifth more changes the last digits of steps only, and with them a
run of TRPO on Hopper: 814 after 50,000 steps for 832."""

NOISE_FOLDS = 5
"""Parts of the weight that are held out in turn, to find the noise."""

HELD_OUT_SAMPLES = 200
"""Effective samples held out that are enough together: the noise is then known to 5 %. On 1,000 samples one fold of 200
finds 1.03 ± .015 of it, and all five, which take three times as long, 1.02 ± .011."""

ROUGH_ITERATIONS = 50
"""Of the first round, which only has to know the noise by its size."""
