r"""O-REPS: online learning against adversarial losses in loop-free MDPs.

Shapes: L layers, S states, A actions, T episodes; occupancies (L, S, A), losses (S, A) an episode; n pairs (l, s, a)
and m nodes (l, s) that can be visited.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.certificate import GAP_TOLERANCE
from reps_opt.divergences.balls import Ball
from reps_opt.divergences.base import KL
from reps_opt.plotting import Panel
from reps_opt.problem import Problem
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import TimeIndexedFlow, evaluate, occupancy_of, optimal_values
from reps_opt.processes.time_indexed import bellman_error as time_indexed_bellman_error
from reps_opt.program import Equal, Hints, Program
from reps_opt.progress import progress as with_bar
from reps_opt.result import Arrays, Result
from reps_opt.solution import Solution, Status
from reps_opt.solvers.answer import Answer
from reps_opt.solvers.layered import LayeredProjection, Projected
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar, first_index, read_only
from reps_opt.values import Value, value

FEEDBACKS = ("full", "bandit")


class Episode(NamedTuple):
    """One episode of :meth:`ORePS.play`.

    Attributes
    ----------
    occupancy : (n,) array
        q_t over the pairs that can be visited: exact for the policy played.
    expected_loss : float
        ``<q_t, loss_t>``, in [0, L].
    sampled_loss : float
        Loss along the trajectory played; NaN with full information, where none is drawn.
    gap : float
        Duality gap of the projection that gave q_{t+1}, in nats.
    """

    occupancy: FloatArray
    expected_loss: float
    sampled_loss: float
    gap: float


@value
class ORePS(Value):
    r"""Online relative entropy policy search (O-REPS) in an episodic MDP with adversarial losses.

    .. math::
        q_{t+1} = \arg\min_q\; \eta\langle q, \hat\ell_t\rangle + KL(q\|q_t) \quad\text{s.t.}\quad
        \textstyle\sum_a q_0(s,a) = \mu_0(s), \quad \sum_a q_{l+1}(s',a) = \sum_{s,a} q_l(s,a) P(s'|s,a) \;[v]

    .. math::
        \max_v\; -\mu_0'v_0 - \sum_l \log \sum_{s,a} q_{t,l}\, e^{\delta_l}, \qquad
        \delta_l = -\eta\hat\ell_t + P v_{l+1} - v_l, \qquad q_{t+1,l} \propto q_{t,l}\, e^{\delta_l}

    The full loss is :math:`\hat\ell_t = \ell_t`; under bandit feedback it is
    :math:`\ell_t \mathbf 1\{(s,a)\text{ visited}\} / q_t`. The first :math:`q_1` has the largest entropy among all
    occupancies, as the bounds ask.

    Parameters
    ----------
    mdp
        Transitions and start distribution; its rewards and gamma play no part. Time makes the episode loop-free,
        whatever the MDP: ``envs.layered(...).mdp`` with ``horizon`` its number of layers is the case of the paper.
    horizon
        L, the number of actions an episode.
    n_episodes
        T, which sets the learning rate; None when ``learning_rate`` is given.
    feedback
        ``"full"`` or ``"bandit"``.
    learning_rate
        The eta above, inverse losses; by default the one of the bound.

    Raises
    ------
    TypeError, ValueError
        For counts that are not positive integers, an unknown feedback, a learning rate that is not positive, or
        neither a learning rate nor ``n_episodes``.

    Notes
    -----
    With D = log(N A / L) for the N nodes and A actions (N = ``|X|`` in a loop-free MDP), the rates sqrt(D / T) and
    sqrt(L D / (N A T)) give regret at most ``2 L sqrt(T D)``, and in expectation ``2 sqrt(L N A T D)`` under bandit
    feedback, for losses in [0, 1]. A step is REPS in penalty form with temperature ``1 / learning_rate`` on the
    layered MDP. The multiplier of the start node is a gauge here, since every layer has its own normaliser: the term
    ``mu0'v_0`` must stay for that.

    References
    ----------
    Zimin, Neu (2013), *Online learning in episodic Markovian decision processes by relative entropy policy search*,
    algorithm 1, theorems 1 and 2.

    Examples
    --------
    >>> import envs
    >>> from reps_opt import ORePS
    >>> problem = envs.layered((1, 3, 3, 3), n_actions=2, seed=0)
    >>> run = ORePS(problem.mdp, problem.n_layers, n_episodes=200).run(problem.losses(200, seed=1))
    >>> print(run.status, 0 < run.regret < run.bound, round(run.bound, 1))
    certified True 143.5
    """

    mdp: MDP
    horizon: int
    n_episodes: int | None
    feedback: str
    learning_rate: float

    def __init__(
        self,
        mdp: MDP,
        horizon: int,
        n_episodes: int | None = None,
        feedback: str = "full",
        learning_rate: float | None = None,
    ) -> None:
        if feedback not in FEEDBACKS:
            raise ValueError(f"feedback must be one of {FEEDBACKS}, got {feedback!r}")
        episodes = None if n_episodes is None else as_count(n_episodes, "n_episodes")
        self._assign(mdp=mdp, horizon=as_count(horizon, "horizon"), n_episodes=episodes, feedback=feedback)
        if learning_rate is not None:
            rate = as_scalar(learning_rate, "learning_rate", low=0.0, low_open=True)
        elif episodes is None:
            raise ValueError("n_episodes must be given, to set the learning rate, or else learning_rate itself")
        else:
            rate = self._rate(episodes)
        self._assign(learning_rate=rate)

    @cached_property
    def flow(self) -> TimeIndexedFlow:
        """Pairs (l, s, a) that some policy visits."""
        shape = (self.horizon, *self.mdp.rewards.shape)
        everything = np.ones(shape, dtype=bool)
        return TimeIndexedFlow(self.mdp, everything).reached(everything)

    @cached_property
    def projection(self) -> LayeredProjection:
        """The projection onto the flow, which every step is."""
        return LayeredProjection(self.flow)

    @property
    def n_pairs(self) -> int:
        """``|X| |A|``: pairs (l, s, a) that can be visited."""
        return self.flow.pairs.size

    @property
    def complexity(self) -> float:
        """``log(|X| |A| / L)``: the largest divergence from the first occupancy is at most L times this."""
        return math.log(self.n_pairs / self.horizon)

    def _rate(self, n_episodes: int) -> float:
        each = 1.0 if self.feedback == "full" else self.horizon / self.n_pairs
        return math.sqrt(each * max(self.complexity, 1e-12) / n_episodes)

    def bound(self, n_episodes: int) -> float:
        """Regret bound after T episodes with the learning rate for T (Zimin and Neu 2013, theorems 1 and 2)."""
        if self.feedback == "full":
            return 2 * self.horizon * math.sqrt(n_episodes * self.complexity)
        return 2 * math.sqrt(self.horizon * self.n_pairs * n_episodes * self.complexity)

    def step(self, losses: ArrayLike, occupancy: ArrayLike | None = None) -> ORePSStep:
        """One step as a problem: from an occupancy q_t (L, S, A), by default the first, and losses (S, A) or (L, S, A).

        ``solve`` certifies it; :meth:`play` takes the same step by dense arrays kept from episode to episode.
        """
        table = np.broadcast_to(as_float_array(losses, "losses"), self.flow.kept.shape)
        q = self.first_occupancy() if occupancy is None else as_float_array(occupancy, "occupancy", table.shape)
        return ORePSStep(self, self.flow.pick(table), self.flow.pick(q))

    def first_occupancy(self) -> FloatArray:
        """The occupancy (L, S, A) of largest entropy: where O-REPS starts."""
        return self.flow.spread(np.exp(self._first().log_occupancy))

    def _first(self) -> Projected:
        zeros = np.zeros(self.n_pairs)
        return self.projection.project(zeros, zeros)

    def play(self, losses: ArrayLike, seed: int | np.random.Generator | None = None) -> Iterator[Episode]:
        """Play against losses (T, S, A) in [0, 1], one episode at a time; ``seed`` draws the bandit's trajectories."""
        table = self._as_losses(losses)
        rng = np.random.default_rng(seed)
        pairs = self.flow.pairs % self.mdp.rewards.size
        log_q = self._first().log_occupancy
        sampler = _Sampler(self.flow)
        for loss in table.reshape(table.shape[0], -1)[:, pairs]:
            q = np.exp(log_q)
            sampled, estimate = math.nan, loss
            if self.feedback == "bandit":
                visited = sampler.trajectory(q, rng)
                sampled = float(loss[visited].sum())
                estimate = np.zeros_like(loss)
                estimate[visited] = loss[visited] / q[visited]
            step = self.projection.project(log_q, -self.learning_rate * estimate)
            yield Episode(q, float(q @ loss), sampled, step.gap)
            log_q = step.log_occupancy

    def run(
        self, losses: ArrayLike, seed: int | np.random.Generator | None = None, progress: bool | None = None
    ) -> OnlineRun:
        """Play all episodes against losses (T, S, A) in [0, 1], and settle the regret.

        ``progress`` shows a bar or none; by default one where standard error is a terminal and it takes a while.
        """
        table = self._as_losses(losses)
        episodes = list(with_bar(self.play(table, seed), table.shape[0], "episodes", progress))
        return OnlineRun(
            self,
            table,
            np.array([e.occupancy for e in episodes]),
            np.array([e.expected_loss for e in episodes]),
            np.array([e.sampled_loss for e in episodes]),
            np.array([e.gap for e in episodes]),
        )

    def _as_losses(self, losses: ArrayLike) -> FloatArray:
        table = as_float_array(losses, "losses", ("T", *self.mdp.rewards.shape))
        outside = (table < 0) | (table > 1)
        if outside.any():
            index = first_index(outside)
            raise ValueError(f"losses{list(index)} is {table[index]}: every loss must be in [0, 1]")
        if self.n_episodes is not None and table.shape[0] != self.n_episodes:
            raise ValueError(f"losses must hold n_episodes = {self.n_episodes} tables, got {table.shape[0]}")
        return table

    def __repr__(self) -> str:
        size = f"{self.flow.nodes.size} nodes, {self.n_pairs} pairs"
        return f"ORePS({size}, horizon={self.horizon}, {self.feedback} feedback, rate {self.learning_rate:.4g})"


@value
class StepSolution(Solution):
    """The answer to a step of O-REPS: the next ``occupancy`` (L, S, A), and ``value`` (L, S), the flow's multiplier."""

    @property
    def occupancy(self) -> FloatArray:
        """q_{t+1} (L, S, A)."""
        flow = self.problem.play.flow
        nothing = np.full(flow.pairs.size, math.nan)
        return read_only(flow.spread(nothing if self.point is None else self.point * self.problem.play.horizon))

    @property
    def value(self) -> FloatArray:
        """v (L, S), in units of the loss; its constant in every layer is free."""
        play = self.problem.play
        if self.multipliers is None:
            return read_only(np.full(play.flow.kept.shape[:2], math.nan))
        return read_only(play.flow.spread_nodes(self.multipliers / play.horizon))

    def arrays(self) -> Arrays:
        return {
            "occupancy": (("layer", "state", "action"), self.occupancy),
            "value": (("layer", "state"), self.value),
        }


@value
class ORePSStep(Problem):
    r"""One step of O-REPS: REPS in penalty form on the layered flow, over x = q / L.

    .. math:: \max_q\; -\langle q, \hat\ell\rangle - \tfrac1\eta KL(q \| q_t) \quad\text{s.t.}\quad \text{flow}\;[v]

    Parameters
    ----------
    play
        The :class:`ORePS` it belongs to.
    losses
        The loss, or its estimate (n,), over the pairs that can be visited.
    reference
        q_t (n,).
    """

    play: ORePS
    losses: FloatArray
    reference: FloatArray

    view = StepSolution

    @cached_property
    def program(self) -> Program:
        """The :class:`~reps_opt.Program`."""
        flow, layers = self.play.flow, self.play.horizon
        rows = {"flow": Equal(flow.matrix, flow.rhs / layers)}
        ball = Ball(KL(self.reference / layers), price=layers / self.play.learning_rate)
        return Program(-layers * self.losses, rows, ball, hints=Hints(mass_implied=True, variable="occupancy"))

    def candidates(self, program: Program, answer: Answer) -> Iterator[FloatArray]:
        """Exact occupancies of the dual maximiser's policy and of the solver's own point."""
        flow, layers = self.play.flow, self.play.horizon
        uniform = np.full(flow.kept.shape, 1.0 / flow.kept.shape[2])
        points = [np.maximum(answer.point, 0.0)] if answer.point is not None else []
        if answer.multipliers is not None:
            points.insert(0, program.within(answer.eta, answer.multipliers, flow.pair_node, flow.nodes.size))
        for point in points:
            yield flow.pick(occupancy_of(self.play.mdp, flow.conditional(point, uniform))) / layers

    def __repr__(self) -> str:
        return f"ORePSStep({self.play!r})"


class _Sampler:
    """Trajectories by inverse cumulative sums, from the occupancy itself: its conditionals are the policy."""

    def __init__(self, flow: TimeIndexedFlow) -> None:
        self.horizon = flow.horizon
        self.first = np.searchsorted(flow.pair_node, np.arange(flow.nodes.size + 1))
        arriving = flow.arriving
        self.ahead = [
            (arriving.indices[a:b], np.cumsum(arriving.data[a:b]))
            for a, b in zip(arriving.indptr, arriving.indptr[1:], strict=False)
        ]
        start = flow.rhs
        self.start = (np.flatnonzero(start), np.cumsum(start[start > 0]))

    @staticmethod
    def _draw(cumulative: FloatArray, uniform: float) -> int:
        return min(int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right")), cumulative.size - 1)

    def trajectory(self, occupancy: FloatArray, rng: np.random.Generator) -> list[int]:
        """Pairs visited, one a layer."""
        uniform = rng.random((self.horizon, 2))
        nodes, cumulative = self.start
        visited = []
        for u, w in uniform:
            node = nodes[self._draw(cumulative, u)]
            begin, end = self.first[node], self.first[node + 1]
            visited.append(int(begin) + self._draw(np.cumsum(occupancy[begin:end]), w))
            nodes, cumulative = self.ahead[visited[-1]]
        return visited


@dataclass(frozen=True, eq=False, repr=False)
class OnlineRun(Result):
    """What O-REPS did over T episodes, and what the best fixed policy would have done.

    Attributes
    ----------
    problem : ORePS
    losses : (T, S, A) array
    pair_occupancies : (T, n) array
        q_t over the pairs that can be visited; :meth:`occupancy` spreads one out.
    expected_losses, sampled_losses : (T,) arrays
        Loss an episode, exact in expectation and along the trajectory (NaN with full information).
    gaps : (T,) array
        Duality gap of each projection, in nats, from data.
    """

    problem: ORePS
    losses: FloatArray
    pair_occupancies: FloatArray
    expected_losses: FloatArray
    sampled_losses: FloatArray
    gaps: FloatArray

    @property
    def n_episodes(self) -> int:
        """T."""
        return self.expected_losses.size

    @cached_property
    def best_policy(self) -> FloatArray:
        """The best fixed policy (L, S, A) in hindsight, deterministic, by backward induction on the summed losses."""
        rewards = self._summed_rewards()
        values = optimal_values(self.problem.mdp, rewards, self.problem.flow.kept)
        error = time_indexed_bellman_error(self.problem.mdp, rewards, values)
        return np.eye(rewards.shape[2])[error.argmax(axis=2)]

    @cached_property
    def best_loss(self) -> float:
        """Summed loss of the best fixed policy in hindsight."""
        values = evaluate(self.problem.mdp, self._summed_rewards(), self.best_policy)
        return -float(self.problem.mdp.mu0 @ values[0])

    def _summed_rewards(self) -> FloatArray:
        return np.broadcast_to(-self.losses.sum(axis=0), self.problem.flow.kept.shape)

    @property
    def cumulative_regret(self) -> FloatArray:
        """Expected loss so far, less that of the policy which is best after all T episodes (T,)."""
        best = occupancy_of(self.problem.mdp, self.best_policy).sum(axis=0)
        return np.cumsum(self.expected_losses - np.einsum("tsa,sa->t", self.losses, best))

    @property
    def regret(self) -> float:
        """Sum of ``<q_t, loss_t>``, less the loss of the best fixed policy in hindsight."""
        return float(self.expected_losses.sum()) - self.best_loss

    @property
    def bound(self) -> float:
        """What the regret is proven not to exceed (in expectation, under bandit feedback)."""
        return self.problem.bound(self.n_episodes)

    @property
    def status(self) -> Status:
        """Certified when every projection is, by its gap."""
        return Status.CERTIFIED if self.gaps.max() <= GAP_TOLERANCE else Status.UNCERTIFIED

    def occupancy(self, episode: int) -> FloatArray:
        """Occupancy (L, S, A) of an episode."""
        return self.problem.flow.spread(self.pair_occupancies[episode])

    @property
    def title(self) -> str:
        return repr(self.problem)

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("status", f"{self.status}   (largest gap {self.gaps.max():.1e} nats)"),
            ("episodes", f"{self.n_episodes}"),
            ("loss", f"{self.expected_losses.sum():.6g}   (best fixed policy {self.best_loss:.6g})"),
            ("regret", f"{self.regret:.6g}   (bound {self.bound:.6g})"),
        ]

    def panels(self) -> list[Panel]:
        """Regret beside what is proven of it, and the loss an episode beside the best fixed policy's."""
        episodes = np.arange(1, self.n_episodes + 1)
        mean = np.cumsum(self.expected_losses) / episodes
        regret = {"regret": self.cumulative_regret, "bound after all": np.full(self.n_episodes, self.bound)}
        loss = {"mean so far": mean, "best fixed policy": np.full(self.n_episodes, self.best_loss / self.n_episodes)}
        against = "regret against the best fixed policy"
        return [
            Panel(lambda axis: plotting.curves(axis, episodes, regret, against, "episode")),
            Panel(lambda axis: plotting.curves(axis, episodes, loss, "loss an episode", "episode")),
        ]

    def numbers(self) -> dict[str, Any]:
        return {
            "status": str(self.status),
            "gap": float(self.gaps.max()),
            "n_episodes": self.n_episodes,
            "loss": float(self.expected_losses.sum()),
            "best_loss": self.best_loss,
            "regret": self.regret,
            "bound": self.bound,
        }

    def arrays(self) -> Arrays:
        """Over the episodes; the best fixed policy in hindsight over layers, states and actions."""
        each = ("episode",)
        return {
            "expected_loss": (each, self.expected_losses),
            "sampled_loss": (each, self.sampled_losses),
            "cumulative_regret": (each, self.cumulative_regret),
            "gap": (each, self.gaps),
            "best_policy": (("layer", "state", "action"), self.best_policy),
        }
