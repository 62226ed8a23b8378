"""What O-REPS did, episode by episode, and its regret against the best fixed policy.

Shapes: L layers, S states, A actions, T episodes; n pairs that can be visited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.processes.flow_values import optimum
from reps_opt.processes.graph import BoolArray
from reps_opt.processes.time_indexed import evaluate, occupancy_of
from reps_opt.result import Arrays, Result
from reps_opt.solution import Status
from reps_opt.validation import FloatArray
from reps_opt.values import cached_property


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
