"""What the network policies share: states standardised, a flat parameter vector, passes taken once.

Shapes: N samples, d state dimensions, P parameters; parameters are float64.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from policies.base import ParametricMixin, Policy
from policies.checks import check_weights, random_source
from policies.features import weighted_mean, weighted_spread
from policies.network import Activations, Network
from policies.network_training import Samples
from policies.spaces import Observations
from policies.tolerances import PRECONDITIONER_SAMPLES, PRIOR_PRECISION
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar

DTYPES = ("float64", "float32")


class Seen:
    """States as a network takes them, checked and standardised once, and one pass over them, taken once.

    What a policy's ``seen(states)`` returns stands for the states where the policy, or a copy of it with other
    parameters, is asked for probabilities, divergences and derivatives. Other policies see the states themselves.
    """

    def __init__(self, policy: NetworkPolicy, states: FloatArray) -> None:
        self.states, self.asks = states, policy._asks
        self.params = policy.params_
        self.inputs = policy._inputs(states).astype(policy.network_.dtype, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the states (N, d)."""
        return self.states.shape

    def __len__(self) -> int:
        return len(self.states)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.states, dtype)

    @cached_property
    def activations(self) -> Activations:
        """Those under the parameters that the policy had."""
        return self.asks[0].forward(self.params, self.inputs)


class NetworkPolicy(ParametricMixin, Policy):
    """What network policies share: standardised inputs, one flat parameter vector, training on all samples at once."""

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        alpha: float = PRIOR_PRECISION,
        max_iter: int = 200,
        device: str = "cpu",
        dtype: str = "float64",
        random_state: Any = None,
        n_states: int | None = None,
    ) -> None:
        self.hidden = hidden
        self.alpha = alpha
        self.max_iter = max_iter
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.n_states = n_states

    def _check_options(self) -> None:
        for i, width in enumerate(self.hidden):
            as_count(width, f"hidden[{i}]")
        as_scalar(self.alpha, "alpha", low=0, low_open=True)
        as_count(self.max_iter, "max_iter")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {DTYPES}, got {self.dtype!r}")
        if self.device != "cpu":
            warnings.warn("device is ignored: networks are trained in NumPy", DeprecationWarning, stacklevel=3)

    def _prepare(self, states: FloatArray, targets: Any, weights: FloatArray, n_outputs: int) -> Any:
        """Set the network; returns its starting parameters (P,), what it is trained on, and the generator."""
        self.centre_, self.spread_ = weighted_mean(states, weights), weighted_spread(states, weights)
        self.network_ = Network((states.shape[1], *(int(h) for h in self.hidden), n_outputs), self.dtype)
        rng = random_source(self.random_state)
        return self.network_.initial(rng), Samples(self._inputs(states), targets, weights), rng

    def _start_network(self, observed: Observations, n_outputs: int, extra: FloatArray) -> None:
        """Random hidden layers and a last one of zeros: the outputs are zero at every state."""
        self.centre_, self.spread_ = observed.centre, observed.spread
        self.network_ = Network((len(self.centre_), *(int(h) for h in self.hidden), n_outputs), self.dtype)
        self.params_ = np.append(self.network_.initial(random_source(self.random_state)), extra)
        self.n_iter_ = 0

    def seen(self, states: ArrayLike) -> Seen:
        """The states for repeated questions, which need not be checked and passed through the network every time.

        Examples
        --------
        >>> from policies import NeuralPolicy
        >>> policy = NeuralPolicy.from_env("Pendulum-v1", hidden=(8,), random_state=0)
        >>> states = np.random.default_rng(0).normal(size=(100, 3))
        >>> seen, v = policy.seen(states), np.ones(policy.params.size)
        >>> np.array_equal(policy.fisher_product(seen)(v), policy.fisher_product(states)(v))
        True
        """
        check_is_fitted(self)
        checked = self._check_states(states)
        return checked if isinstance(checked, Seen) else Seen(self, checked)

    @property
    def _asks(self) -> tuple[Network, FloatArray, FloatArray]:
        """What decides how states are taken in: the same objects in all copies with other parameters."""
        return self.network_, self.centre_, self.spread_

    def _check_states(self, states: Any, reset: bool = False, name: str = "states") -> Any:
        if isinstance(states, Seen):
            if all(theirs is mine for theirs, mine in zip(states.asks, self._asks, strict=True)):
                return states
            states = states.states
        return super()._check_states(states, reset, name)

    def _inputs(self, states: FloatArray | Seen) -> FloatArray:
        return states.inputs if isinstance(states, Seen) else (states - self.centre_) / self.spread_

    def _outputs(self, states: FloatArray | Seen) -> FloatArray:
        return self.network_.output(self.params_, self._inputs(states))

    def _activations(self, states: FloatArray | Seen) -> Activations:
        if isinstance(states, Seen) and states.params is self.params_:
            return states.activations
        return self.network_.forward(self.params_, self._inputs(states))

    def _thinned(self, states: FloatArray | Seen) -> tuple[FloatArray, Activations]:
        """Inputs and activations of evenly spread samples, enough for the factors of a preconditioner."""
        some = slice(None, None, max(1, len(states) // PRECONDITIONER_SAMPLES))
        if isinstance(states, Seen):
            return states.inputs[some], self._activations(states).part(some)
        return self._inputs(states[some]), self._activations(states[some])

    def standardised(self, states: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """The same policy with its inputs standardised by these states: another first layer, the same actions.

        Steps in parameter space, their damping and the prior of the fit see inputs of unit spread; the action
        distribution at every state stays what it was, to rounding.

        Parameters
        ----------
        states, sample_weight
            States (N, d), and weights (N,); None for ones.

        Examples
        --------
        >>> from policies import NeuralCategoricalPolicy
        >>> policy = NeuralCategoricalPolicy.from_env("CartPole-v1", hidden=(8,), random_state=0)
        >>> states = 0.1 * np.random.default_rng(0).normal(size=(100, 4))
        >>> again = policy.standardised(states)
        >>> bool(again.kl_divergence(policy, states).max() < 1e-12)
        True
        """
        check_is_fitted(self)
        checked = super()._check_states(states)
        weights = check_weights(sample_weight, len(checked))
        policy = copy.copy(self)
        policy.centre_, policy.spread_ = weighted_mean(checked, weights), weighted_spread(checked, weights)
        policy.params_ = self.params_.copy()
        W, b = self.network_.layers(policy.params_)[0]  # views of the copy
        b += ((policy.centre_ - self.centre_) / self.spread_) @ W
        W *= (policy.spread_ / self.spread_)[:, None]
        return policy

    @property
    def _single(self) -> Network:
        """The network for one state at a time, where conversions would cost more than they save."""
        return Network(self.network_.sizes)

    def _pullback(self, states: FloatArray, seeds: FloatArray) -> FloatArray:
        return self.network_.pullback(self.params_, self._activations(states), seeds)

    @property
    def params(self) -> FloatArray:
        """A copy of the flat parameters, shape (P,): the network's, layer by layer, then the log standard
        deviations."""
        check_is_fitted(self)
        return self.params_.copy()

    def with_params(self, params: ArrayLike) -> Self:
        """A copy of the policy with these parameters."""
        check_is_fitted(self)
        policy = copy.copy(self)
        policy.params_ = as_float_array(params, "params", self.params_.shape).copy()
        return policy
