"""Random Markov decision processes: Garnets, and loop-free layered ones with adversarial losses.

Shapes: S states, A actions, T episodes; ``layer`` is (S,) integers; losses are (T, S, A) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from reps_opt.processes.mdp import MDP
from reps_opt.validation import FloatArray, as_count, as_scalar, read_only

Seed = int | np.random.SeedSequence | np.random.Generator | None

ADVERSARIES = ("iid", "switching", "walk")


def garnet(
    n_states: int,
    n_actions: int,
    branching: int,
    seed: Seed = None,
    gamma: float = 0.95,
    reward_density: float = 1.0,
) -> MDP:
    """A Garnet, the generic random MDP: random next states, random probabilities, random rewards.

    From each state and action ``branching`` distinct next states are reached, chosen uniformly; their probabilities
    are the gaps between ``branching - 1`` uniform cut points of [0, 1]. Rewards are standard normal.

    Parameters
    ----------
    n_states, n_actions
        Size of the MDP.
    branching
        Number of next states of each pair, 1 ... ``n_states``.
    seed
        An integer, ``SeedSequence`` or ``Generator``; the same integer gives the same MDP.
    gamma
        Discount factor in (0, 1]; 1 means average reward.
    reward_density
        Probability in [0, 1] that a pair has a reward at all; the others have zero.

    Raises
    ------
    TypeError, ValueError
        If a count is not a positive integer, ``branching`` exceeds ``n_states``, or ``reward_density`` is not a
        probability.

    References
    ----------
    Archibald, McKinnon and Thomas (1995), *On the generation of Markov decision processes*; Bhatnagar, Sutton,
    Ghavamzadeh and Lee (2009), *Natural actor-critic algorithms*, section 6.

    Examples
    --------
    >>> mdp = garnet(50, 4, branching=3, seed=0)
    >>> mdp.transitions.shape, mdp.transitions.nnz
    ((200, 50), 600)
    """
    S, A = as_count(n_states, "n_states"), as_count(n_actions, "n_actions")
    b = as_count(branching, "branching")
    if b > S:
        raise ValueError(f"branching must be <= n_states = {S}, got {b}")
    density = as_scalar(reward_density, "reward_density", low=0.0, high=1.0)
    rng = np.random.default_rng(seed)
    next_state = _distinct(rng, S * A, b, S)
    cuts = np.sort(rng.random((S * A, b - 1)), axis=1)
    probability = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    P = sp.csr_array((probability.ravel(), next_state.ravel(), np.arange(0, S * A * b + 1, b)), shape=(S * A, S))
    r = rng.standard_normal((S, A)) * (rng.random((S, A)) < density)
    return MDP(P, r, gamma=gamma)


@dataclass(frozen=True)
class LayeredMDP:
    """A layered MDP and the layer of each of its states.

    Attributes
    ----------
    mdp : MDP
        Average reward (``gamma=1``), with zero rewards. Every action in the last layer leads back to the start, state
        0, so an episode is one turn of the cycle: the layered occupancy, which sums to one in every layer, is ``L``
        times ``mdp.occupancy``.
    layer : ndarray of int (S,)
        Layer of each state, in increasing order.
    """

    mdp: MDP
    layer: NDArray[np.int64]

    @property
    def n_layers(self) -> int:
        """Number of layers L, which is the length of an episode."""
        return int(self.layer[-1]) + 1

    def losses(
        self, n_episodes: int, adversary: str = "switching", seed: Seed = None, n_switches: int = 5
    ) -> FloatArray:
        """Losses (T, S, A) in [0, 1], chosen in advance by an oblivious adversary.

        Parameters
        ----------
        n_episodes
            Number of episodes T.
        adversary
            ``"iid"``: coin flips with one mean table for all episodes. ``"switching"``: the mean table is redrawn
            ``n_switches`` times, at equal distances, so that what was good may turn bad. ``"walk"``: each entry is a
            random walk of standard deviation 0.1 an episode, reflected at 0 and 1.
        seed
            An integer, ``SeedSequence`` or ``Generator``.
        n_switches
            For ``"switching"`` only.

        Raises
        ------
        TypeError, ValueError
            If ``n_episodes`` or ``n_switches`` is not a positive integer, or the adversary is unknown.
        """
        T = as_count(n_episodes, "n_episodes")
        pieces = as_count(n_switches, "n_switches") + 1 if adversary == "switching" else 1
        if adversary not in ADVERSARIES:
            raise ValueError(f"adversary must be one of {ADVERSARIES}, got {adversary!r}")
        rng = np.random.default_rng(seed)
        shape = (self.mdp.n_states, self.mdp.n_actions)
        if adversary == "walk":
            path = rng.random(shape) + np.cumsum(0.1 * rng.standard_normal((T, *shape)), axis=0)
            return 1.0 - np.abs(np.mod(path, 2.0) - 1.0)
        mean = rng.random((pieces, *shape))[np.arange(T) * pieces // T]
        return (rng.random((T, *shape)) < mean).astype(np.float64)


def layered(layer_sizes: Sequence[int] = (1, 3, 3, 3), n_actions: int = 2, seed: Seed = None) -> LayeredMDP:
    """A random loop-free MDP: from every state of a layer, every state of the next one can be reached.

    Each row of transition probabilities is uniform on the simplex (Dirichlet with parameters one).

    Parameters
    ----------
    layer_sizes
        States in each layer, the first of which must be 1: episodes start in state 0. The default is L = 4 layers with
        10 states in all. The terminal layer is not counted; it is where the cycle closes.
    n_actions
        Actions in every state.
    seed
        An integer, ``SeedSequence`` or ``Generator``.

    Raises
    ------
    TypeError, ValueError
        If a count is not a positive integer, or the first layer has more than one state.

    References
    ----------
    Zimin and Neu (2013), *Online learning in episodic Markovian decision processes by relative entropy policy search*,
    section 2.

    Examples
    --------
    >>> problem = layered(seed=0)
    >>> problem.layer
    array([0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    >>> problem.losses(50, seed=1).shape
    (50, 10, 2)
    """
    sizes = [as_count(size, f"layer_sizes[{i}]") for i, size in enumerate(layer_sizes)]
    if not sizes or sizes[0] != 1:
        raise ValueError(f"layer_sizes must begin with 1, the start state, got {tuple(layer_sizes)}")
    A = as_count(n_actions, "n_actions")
    rng = np.random.default_rng(seed)
    layer = np.repeat(np.arange(len(sizes)), sizes)
    P = np.zeros((len(layer), A, len(layer)))
    for i in range(len(sizes) - 1):
        here, there = np.flatnonzero(layer == i), np.flatnonzero(layer == i + 1)
        P[np.ix_(here, np.arange(A), there)] = rng.dirichlet(np.ones(len(there)), size=(len(here), A))
    P[layer == len(sizes) - 1, :, 0] = 1.0
    mdp = MDP(P, np.zeros((len(layer), A)), gamma=1.0, mu0=np.eye(len(layer))[0])
    return LayeredMDP(mdp, read_only(layer))


def _distinct(rng: np.random.Generator, n_rows: int, k: int, n: int) -> NDArray[np.int64]:
    """For each row, k distinct integers below n, every subset equally likely (Floyd's algorithm on all rows at once).

    Bentley and Floyd (1987), *Programming pearls: a sample of brilliance*, algorithm F2.
    """
    chosen = np.empty((n_rows, k), dtype=np.int64)
    for i, top in enumerate(range(n - k, n)):
        draw = rng.integers(0, top, size=n_rows, endpoint=True)
        taken = (chosen[:, :i] == draw[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, top, draw)
    return chosen
