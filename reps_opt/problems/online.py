r"""O-REPS: online learning against adversarial losses in loop-free MDPs, what it did, and its regret.

Shapes: L layers, S states, A actions, T episodes; occupancies (L, S, A), losses (S, A) an episode; n pairs (l, s, a)
that can be visited.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.problems.online_step import ORePSStep
from reps_opt.processes.flow import Flow
from reps_opt.processes.flow_values import optimum
from reps_opt.processes.graph import BoolArray
from reps_opt.processes.mdp import MDP
from reps_opt.processes.time_indexed import evaluate, occupancy_of
from reps_opt.progress import progress as with_bar
from reps_opt.result import Arrays, Result
from reps_opt.solution import Status
from reps_opt.solving import solve
from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray, as_count, as_float_array, as_scalar, first_index
from reps_opt.values import Value, cached_property, value

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
        Duality gap of the step that gave q_{t+1}, in nats.
    certified : bool
        Whether the certificate of that step is within tolerance.
    """

    occupancy: FloatArray
    expected_loss: float
    sampled_loss: float
    gap: float
    certified: bool


class TrajectorySampler:
    """Trajectories by inverse cumulative sums, from an occupancy itself: its conditionals are the policy.

    The sums are lists: a draw among a few is three times as fast by ``bisect``.
    """

    def __init__(self, flow: Flow) -> None:
        self.horizon = flow.layer_starts.size
        self.first = np.append(flow.first_pairs, flow.pairs.size).tolist()
        arriving = flow.arriving
        self.ahead = [
            (arriving.indices[a:b].tolist(), arriving.data[a:b].cumsum().tolist())
            for a, b in zip(arriving.indptr, arriving.indptr[1:], strict=False)
        ]
        start = flow.rhs
        self.start = (np.flatnonzero(start).tolist(), start[start > 0].cumsum().tolist())

    @staticmethod
    def _draw(cumulative: list[float], uniform: float) -> int:
        return min(bisect_right(cumulative, uniform * cumulative[-1]), len(cumulative) - 1)

    def trajectory(self, occupancy: FloatArray, rng: np.random.Generator) -> list[int]:
        """Positions of the pairs visited, one a step, for the policy of an occupancy (n,)."""
        nodes, cumulative = self.start
        visited = []
        for u, w in rng.random((self.horizon, 2)).tolist():
            node = nodes[self._draw(cumulative, u)]
            begin, end = self.first[node], self.first[node + 1]
            visited.append(begin + self._draw(occupancy[begin:end].cumsum().tolist(), w))
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
        Duality gap of each step, in nats, from its certificate.
    certified : (T,) array
        Whether that certificate is within tolerance.
    """

    problem: Any
    losses: FloatArray
    pair_occupancies: FloatArray
    expected_losses: FloatArray
    sampled_losses: FloatArray
    gaps: FloatArray
    certified: BoolArray

    @property
    def n_episodes(self) -> int:
        """T."""
        return self.expected_losses.size

    @cached_property
    def best_policy(self) -> FloatArray:
        """The best fixed policy (L, S, A) in hindsight, deterministic, by backward induction on the summed losses."""
        flow = self.problem.flow
        return flow.spread(optimum(flow, flow.pick(self._summed_rewards())).greedy)

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
        """Certified when every step is."""
        return Status.CERTIFIED if self.certified.all() else Status.UNCERTIFIED

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
            lambda axis: plotting.curves(axis, episodes, regret, against, "episode"),
            lambda axis: plotting.curves(axis, episodes, loss, "loss an episode", "episode"),
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


@value
class ORePS(Value):
    r"""Online relative entropy policy search (O-REPS) in an episodic MDP with adversarial losses.

    .. math::
        q_{t+1} = \arg\min_q\; \eta\langle q, \hat\ell_t\rangle + KL(q\|q_t) \quad\text{s.t.}\quad
        \textstyle\sum_a q_0(s,a) = \mu_0(s), \quad \sum_a q_{l+1}(s',a) = \sum_{s,a} q_l(s,a) P(s'|s,a) \;[v]

    .. math::
        \max_v\; -\mu_0'v_0 - L \log \tfrac1L \textstyle\sum_l \sum_{s,a} q_{t,l}\, e^{\delta_l}, \qquad
        \delta_l = -\eta\hat\ell_t + P v_{l+1} - v_l, \qquad q_{t+1} \propto q_t\, e^{\delta}

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
    layered MDP. A multiple of the number of layers to come may be added to v: the term ``mu0'v_0`` must stay for that.

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
            each = 1.0 if feedback == "full" else self.horizon / self.n_pairs
            rate = math.sqrt(each * max(self.complexity, ROUNDING) / episodes)
        self._assign(learning_rate=rate)

    @cached_property
    def flow(self) -> Flow:
        """Pairs (l, s, a) that some policy visits."""
        return Flow.unrolled(self.mdp, np.ones((self.horizon, *self.mdp.rewards.shape), dtype=bool))

    def _step(self, losses: FloatArray, log_occupancy: FloatArray) -> ORePSStep:
        return ORePSStep(self.flow, losses, log_occupancy, 1.0 / self.learning_rate)

    @cached_property
    def _idle(self) -> ORePSStep:
        """A step without losses from even weights: its answer has the largest entropy."""
        n = self.flow.pairs.size
        return self._step(np.zeros(n), np.full(n, math.log(self.horizon / n)))

    @property
    def n_pairs(self) -> int:
        """``|X| |A|``: pairs (l, s, a) that can be visited."""
        return self.flow.pairs.size

    @property
    def complexity(self) -> float:
        """``log(|X| |A| / L)``: the largest divergence from the first occupancy is at most L times this."""
        return math.log(self.n_pairs / self.horizon)

    def bound(self, n_episodes: int) -> float:
        """Regret bound after T episodes with the learning rate for T (Zimin and Neu 2013, theorems 1 and 2)."""
        if self.feedback == "full":
            return 2 * self.horizon * math.sqrt(n_episodes * self.complexity)
        return 2 * math.sqrt(self.horizon * self.n_pairs * n_episodes * self.complexity)

    def step(self, losses: ArrayLike, occupancy: ArrayLike | None = None) -> ORePSStep:
        """One step as a problem: from an occupancy q_t (L, S, A), by default the first, and losses (S, A) or (L, S, A).

        It is the problem that :meth:`play` solves in every episode.
        """
        table = np.broadcast_to(as_float_array(losses, "losses"), self.flow.shape)
        q = self.first_occupancy() if occupancy is None else as_float_array(occupancy, "occupancy", table.shape)
        with np.errstate(divide="ignore"):
            return self._step(self.flow.pick(table), np.log(self.flow.pick(q)))

    def first_occupancy(self) -> FloatArray:
        """The occupancy (L, S, A) of largest entropy: where O-REPS starts."""
        return solve(self._idle).occupancy

    def play(self, losses: ArrayLike, seed: int | np.random.Generator | None = None) -> Iterator[Episode]:
        """Play against losses (T, S, A) in [0, 1], one episode at a time; ``seed`` draws the bandit's trajectories."""
        table = self._as_losses(losses)
        rng = np.random.default_rng(seed)
        pairs = self.flow.pairs % self.mdp.rewards.size
        log_q = solve(self._idle).log_occupancy
        sampler = TrajectorySampler(self.flow)
        for loss in table.reshape(table.shape[0], -1)[:, pairs]:
            q = np.exp(log_q)
            sampled, estimate = math.nan, loss
            if self.feedback == "bandit":
                visited = sampler.trajectory(q, rng)
                sampled = float(loss[visited].sum())
                estimate = np.zeros_like(loss)
                estimate[visited] = loss[visited] / q[visited]
            step = solve(self._step(estimate, log_q))
            if not step.has_point:
                raise RuntimeError(f"a step of O-REPS gave no occupancy: {step.message}")
            gap = (step.dual_objective - step.objective) * self.learning_rate
            yield Episode(q, float(q @ loss), sampled, gap, step.status is Status.CERTIFIED)
            log_q = step.log_occupancy

    def run(
        self, losses: ArrayLike, seed: int | np.random.Generator | None = None, progress: bool | None = None
    ) -> OnlineRun:
        """Play all episodes against losses (T, S, A) in [0, 1], and settle the regret.

        ``progress`` shows a bar or none; by default one where standard error is a terminal and it takes a while.
        """
        table = self._as_losses(losses)
        episodes = with_bar(self.play(table, seed), table.shape[0], "episodes", progress)
        return OnlineRun(self, table, *map(np.array, zip(*episodes, strict=True)))

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
