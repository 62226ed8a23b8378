r"""A network of state values that goes on learning from batch to batch, in NumPy.

Shapes: N states, d state dimensions, P parameters in one flat vector: of each layer its matrix (in + 1, out), row by
row, the bias last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from reps_opt.tolerances import ADAM, LATEST_SHARE, ROUNDING
from reps_opt.validation import FloatArray, as_count, as_scalar

Memory = Mapping[str, Any]
"""What an update knows from earlier batches: arrays by name."""


@dataclass(frozen=True, kw_only=True)
class ValueNetwork:
    """Values ``offset + unit net((s - centre) / spread)`` of a tanh network, improved by a few epochs on every batch.

    The settings are frozen: what is learned is a memory, a mapping of arrays, from which :meth:`learn` makes the next.
    Inputs are standardised by all states so far, targets by those of late; where these change, the first and the last
    layer are changed with them, so that the values stay what they were.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    epochs, batch_size, learning_rate
        Of Adam on the squared error in units of the targets' spread: passes over a batch, states of a step, its size.
    seed
        Of the first parameters and of the order of the states; a memory is a function of it and of the batches.

    References
    ----------
    Kingma and Ba (2015), *Adam*; van Hasselt et al. (2016), *Learning values across many orders of magnitude*.

    Examples
    --------
    >>> network = ValueNetwork()
    >>> states = np.linspace(-1, 1, 400)[:, None]
    >>> memory = {}
    >>> for _ in range(20):
    ...     memory = network.learn(memory, states, 100 + 5 * states[:, 0] ** 2)
    >>> bool(abs(network.predict(memory, np.array([[0.5]]))[0] - 101.25) < 0.2)
    True
    """

    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for i, width in enumerate(self.hidden):
            as_count(width, f"hidden[{i}]")
        as_count(self.epochs, "epochs")
        as_count(self.batch_size, "batch_size")
        as_scalar(self.learning_rate, "learning_rate", low=0.0, low_open=True)

    def predict(self, memory: Memory, states: FloatArray) -> FloatArray:
        """Values (N,) of states (N, d)."""
        layers = self._layers(memory["params"], states.shape[1])
        moments = moments_of(memory)
        outputs = _forward(layers, (states - moments.centre) / moments.spread)[-1][:, 0]
        return memory["offset"] + memory["unit"] * outputs

    def learn(self, memory: Memory, states: FloatArray, targets: FloatArray) -> dict[str, Any]:
        """The memory after some epochs on states (N, d) and their targets (N,); the one given is left as it was."""
        known = self._begin(states.shape[1]) if not memory else {name: np.copy(value) for name, value in memory.items()}
        layers = self._layers(known["params"], states.shape[1])
        _restandardise_inputs(known, layers[0], states)
        _restandardise_outputs(known, layers[-1], targets)
        moments = moments_of(known)
        inputs = (states - moments.centre) / moments.spread
        wanted = (targets - known["offset"]) / known["unit"]
        rng = np.random.default_rng([self.seed, int(known["steps"])])
        for _ in range(self.epochs):
            order = rng.permutation(len(inputs))
            for start in range(0, len(inputs), self.batch_size):
                some = order[start : start + self.batch_size]
                self._step(known, layers, inputs[some], wanted[some])
        return known

    def _begin(self, d: int) -> dict[str, Any]:
        sizes = (d, *self.hidden, 1)
        rng = np.random.default_rng(self.seed)
        params = np.zeros(sum((a + 1) * b for a, b in pairwise(sizes)))
        for W in self._layers(params, d)[:-1]:
            W[:-1] = rng.normal(scale=1 / np.sqrt(len(W) - 1), size=(len(W) - 1, W.shape[1]))
        zero, one = np.zeros(()), np.ones(())
        return {
            "params": params,
            "moment": np.zeros_like(params),
            "square": np.zeros_like(params),
            "steps": zero.copy(),
            "batches": zero.copy(),
            "count": zero.copy(),
            "centre": np.zeros(d),
            "deviation": np.zeros(d),
            "offset": zero.copy(),
            "unit": one.copy(),
        }

    def _layers(self, params: FloatArray, d: int) -> list[FloatArray]:
        """Views (in + 1, out) of the flat vector."""
        sizes, layers, start = (d, *self.hidden, 1), [], 0
        for a, b in pairwise(sizes):
            layers.append(params[start : start + (a + 1) * b].reshape(a + 1, b))
            start += (a + 1) * b
        return layers

    def _step(self, known: dict[str, Any], layers: list[FloatArray], inputs: FloatArray, wanted: FloatArray) -> None:
        """One step of Adam, in place."""
        gradient = _gradient(layers, inputs, wanted, known["params"].size)
        first, second, floor = ADAM
        known["steps"] += 1
        moment, square, t = known["moment"], known["square"], float(known["steps"])
        moment += (1 - first) * (gradient - moment)
        gradient *= gradient
        square += (1 - second) * (gradient - square)
        rate = self.learning_rate * np.sqrt(1 - second**t) / (1 - first**t)
        known["params"] -= rate * moment / (np.sqrt(square) + floor)


def _forward(layers: list[FloatArray], x: FloatArray) -> list[FloatArray]:
    """The inputs of every layer, and the outputs (N, 1)."""
    passed = [x]
    for W in layers:
        x = x @ W[:-1]
        x += W[-1]
        if W is not layers[-1]:
            np.tanh(x, out=x)
        passed.append(x)
    return passed


def _gradient(layers: list[FloatArray], inputs: FloatArray, wanted: FloatArray, n_params: int) -> FloatArray:
    """Gradient (P,) of half the mean squared error."""
    passed = _forward(layers, inputs)
    seeds = (passed[-1] - wanted[:, None]) / len(wanted)
    gradient, end = np.empty(n_params), n_params
    for i in range(len(layers) - 1, -1, -1):
        start = end - layers[i].size
        block = gradient[start:end].reshape(layers[i].shape)
        np.matmul(passed[i].T, seeds, out=block[:-1])
        seeds.sum(axis=0, out=block[-1])
        if i:
            seeds = seeds @ layers[i][:-1].T
            seeds *= 1 - passed[i] ** 2
        end = start
    return gradient


class Moments(NamedTuple):
    """Mean (d,) and standard deviation (d,) of ``count`` rows."""

    count: Any
    centre: Any
    deviation: Any

    @property
    def spread(self) -> FloatArray:
        """The deviation, or one for a column that is constant to rounding."""
        return np.where(self.deviation > ROUNDING * np.abs(self.centre), self.deviation, 1.0)

    def grown(self, rows: FloatArray) -> Moments:
        """Those of the rows so far and of rows (N, d) together."""
        share = len(rows) / (float(self.count) + len(rows))
        centre = (1 - share) * self.centre + share * rows.mean(axis=0)
        before = self.deviation**2 + (self.centre - centre) ** 2
        square = (1 - share) * before + share * np.mean((rows - centre) ** 2, axis=0)
        return Moments(np.asarray(float(self.count) + len(rows)), centre, np.sqrt(square))


def moments_of(memory: Memory) -> Moments:
    """Those that a memory holds; of no rows, where it holds none."""
    return Moments(*(memory.get(name, np.zeros(())) for name in Moments._fields))


def _restandardise_inputs(known: dict[str, Any], first: FloatArray, states: FloatArray) -> None:
    """Mean and deviation over all states so far; the first layer is changed with them."""
    old = moments_of(known)
    new = old.grown(states)
    if old.count > 0:
        first[-1] += ((new.centre - old.centre) / old.spread) @ first[:-1]
        first[:-1] *= (new.spread / old.spread)[:, None]
    known.update(new._asdict())


def _restandardise_outputs(known: dict[str, Any], last: FloatArray, targets: FloatArray) -> None:
    """Mean and deviation of late targets; the last layer is changed with them."""
    before, offset, unit = float(known["batches"]), float(known["offset"]), float(known["unit"])
    share = max(1 / (before + 1), LATEST_SHARE)
    middle = (1 - share) * offset + share * float(targets.mean())
    square = (1 - share) * (unit**2 + (offset - middle) ** 2) + share * float(np.mean((targets - middle) ** 2))
    scale = np.sqrt(square if before else float(np.mean((targets - middle) ** 2)))
    scale = scale if scale > ROUNDING * abs(middle) else max(abs(middle), 1.0)
    if before > 0:
        last *= unit / scale
        last[-1] += (offset - middle) / scale
    known["offset"], known["unit"] = np.asarray(middle), np.asarray(scale)
    known["batches"] = np.asarray(before + 1)
