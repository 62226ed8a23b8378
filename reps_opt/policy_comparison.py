"""Two policies of a finite MDP side by side: exact gain, surrogate, every KL divergence, and the lower bounds.

Shapes: S states, A actions; policies are (S, A), state distributions d (S,).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from reps_opt import plotting
from reps_opt.plotting import Panel
from reps_opt.processes.mdp import MDP
from reps_opt.result import Result
from reps_opt.tolerances import ROUNDING
from reps_opt.validation import FloatArray


@dataclass(frozen=True, repr=False)
class PolicyComparison(Result):
    r"""A new policy pi beside an old one pi_q; returns in mean reward a step, divergences in nats.

    Attributes
    ----------
    old_return, new_return : float
        Mean reward of either policy.
    gain : float
        ``new_return - old_return``.
    surrogate : float
        What TRPO expects of the gain: :math:`\sum_s d_q(s) \sum_a \pi(a|s) A_q(s,a)`.
    joint_kl : float
        :math:`KL(p\|q)` of the occupancies, REPS's divergence; the sum of the next two.
    state_kl : float
        :math:`KL(d\|d_q)` of the state distributions.
    conditional_kl : float
        :math:`\sum_s d(s) KL(\pi\|\pi_q)`, at the new states.
    kl_new_old, kl_old_new : float
        :math:`\sum_s d_q(s) KL(\pi\|\pi_q)` and :math:`\sum_s d_q(s) KL(\pi_q\|\pi)`, at the old states.
    max_kl : float
        :math:`\max_s KL(\pi_q\|\pi)`.
    trpo_bound, cpo_bound : float
        Lower bounds on ``gain``; minus infinity with average reward, where there is none.
    """

    old_return: float
    new_return: float
    surrogate: float
    joint_kl: float
    state_kl: float
    conditional_kl: float
    kl_new_old: float
    kl_old_new: float
    max_kl: float
    trpo_bound: float
    cpo_bound: float
    rounding: float

    @property
    def gain(self) -> float:
        """``new_return - old_return``."""
        return self.new_return - self.old_return

    @property
    def trpo_holds(self) -> bool:
        """Whether the gain is at least the TRPO bound, to rounding."""
        return self.gain >= self.trpo_bound - self.rounding

    @property
    def cpo_holds(self) -> bool:
        """Whether the gain is at least the CPO bound, to rounding."""
        return self.gain >= self.cpo_bound - self.rounding

    @property
    def title(self) -> str:
        return "PolicyComparison of the new policy with the old"

    def gain_panel(self) -> Panel:
        """Bars: the gain, what the surrogate promised and what the bounds guaranteed, where they are finite."""
        values = {
            "gain": self.gain,
            "surrogate": self.surrogate,
            "TRPO\nbound": self.trpo_bound,
            "CPO\nbound": self.cpo_bound,
        }
        reach = max(abs(self.gain), abs(self.surrogate)) or 1.0  # the bounds are often below: their numbers tell
        return lambda axis: plotting.bars(axis, values, "gain in mean reward", reach)

    def panels(self) -> list[Panel]:
        """Gain beside its promises, and the divergences, in nats."""
        names = ("joint_kl", "state_kl", "conditional_kl", "kl_new_old", "kl_old_new", "max_kl")
        values = {name: float(getattr(self, name)) for name in names}
        divergences = partial(plotting.long_bars, values=values, title="divergences", xlabel="nats")
        return [self.gain_panel(), divergences, *super().panels()]

    def rows(self) -> list[tuple[str, str]]:
        trpo, cpo = ("holds" if held else "broken" for held in (self.trpo_holds, self.cpo_holds))
        return [
            ("return", f"{self.old_return:.8g} -> {self.new_return:.8g}"),
            ("gain", f"{self.gain:.6g}   (TRPO's surrogate {self.surrogate:.6g})"),
            ("joint KL", f"{self.joint_kl:.6g} nats = states {self.state_kl:.6g} + policy {self.conditional_kl:.6g}"),
            ("policy KL at old states", f"new || old {self.kl_new_old:.6g}, old || new {self.kl_old_new:.6g}"),
            ("largest KL of a state", f"old || new {self.max_kl:.6g}"),
            ("TRPO's bound", f"{self.trpo_bound:.6g} ({trpo})"),
            ("CPO's bound", f"{self.cpo_bound:.6g} ({cpo})"),
        ]

    def numbers(self) -> dict[str, Any]:
        numbers = asdict(self) | {name: getattr(self, name) for name in ("gain", "trpo_holds", "cpo_holds")}
        del numbers["rounding"]
        return numbers


def compare_policies(mdp: MDP, old: ArrayLike, new: ArrayLike) -> PolicyComparison:
    r"""Compare two policies exactly, by linear solves.

    .. math::
        J(\pi) - J(\pi_q) \ge L - \frac{4\gamma\max|A|}{1-\gamma} \max_s KL(\pi_q\|\pi), \qquad
        J(\pi) - J(\pi_q) \ge L - \frac{2\gamma\varepsilon'}{1-\gamma}
        \sum_s d_q(s) TV(\pi, \pi_q), \quad \varepsilon' = \max_s |\mathbb E_\pi A|

    with J in mean reward a step and L the surrogate: (1 - gamma) times the papers' bounds on unnormalised returns.

    Parameters
    ----------
    mdp
        The :class:`~reps_opt.MDP`; with ``gamma == 1``, of unichain policies.
    old, new
        Policies (S, A), or (S,) integers.

    Returns
    -------
    PolicyComparison
        A divergence is infinite where one policy takes an action, or visits a state, that the other does not.

    Raises
    ------
    TypeError, ValueError
        For a policy that is none.

    References
    ----------
    Kakade and Langford (2002), lemma 6.1 (performance difference); Schulman et al. (2015), *Trust region policy
    optimization*, equation 9; Achiam, Held, Tamar, Abbeel (2017), *Constrained policy optimization*, corollary 1.

    Examples
    --------
    One action more to the right in a hundred, and the chain's states are elsewhere.

    >>> import envs
    >>> mdp = envs.lecture_chain()
    >>> found = compare_policies(mdp, mdp.uniform_policy(), [[0.49, 0.51]] * 101)
    >>> print(f"{found.kl_new_old:.1e} {found.state_kl:.3f} {found.gain:.3f}")
    2.0e-04 0.486 0.009
    """
    before, after = mdp.as_policy(old), mdp.as_policy(new)
    d_old, d_new = mdp.state_distribution(before), mdp.state_distribution(after)
    advantage = np.where(mdp.allowed, mdp.advantage(before), 0.0)
    expected = np.sum(after * advantage, axis=1)
    surrogate = float(d_old @ expected)
    rel_entr = scipy.special.rel_entr
    forward, backward = rel_entr(after, before).sum(axis=1), rel_entr(before, after).sum(axis=1)
    state_kl, conditional_kl = float(rel_entr(d_new, d_old).sum()), _mean(d_new, forward)
    variation = 0.5 * float(d_old @ np.abs(after - before).sum(axis=1))
    horizon = mdp.gamma / (1 - mdp.gamma) if mdp.gamma < 1 else math.inf
    return PolicyComparison(
        old_return=float(d_old @ np.sum(before * mdp.rewards, axis=1)),
        new_return=float(d_new @ np.sum(after * mdp.rewards, axis=1)),
        surrogate=surrogate,
        joint_kl=state_kl + conditional_kl,
        state_kl=state_kl,
        conditional_kl=conditional_kl,
        kl_new_old=_mean(d_old, forward),
        kl_old_new=_mean(d_old, backward),
        max_kl=float(backward.max()),
        trpo_bound=surrogate - _penalty(4 * horizon, float(np.abs(advantage).max()) * float(backward.max())),
        cpo_bound=surrogate - _penalty(2 * horizon, float(np.abs(expected).max()) * variation),
        rounding=ROUNDING * float(np.abs(mdp.rewards).max()) * (1 + (horizon if mdp.gamma < 1 else mdp.n_states)),
    )


def _mean(weights: FloatArray, values: FloatArray) -> float:
    """Weighted mean in which a state without weight counts for nothing, infinite or not."""
    seen = weights > 0
    return float(weights[seen] @ values[seen])


def _penalty(factor: float, size: float) -> float:
    """``factor * size``, infinite as soon as the factor is."""
    return math.inf if math.isinf(factor) else factor * size
