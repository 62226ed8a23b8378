"""Conditional relative entropy: how far a policy is from a reference policy, weighted by its own state distribution.

Shapes: n state-action pairs in m groups, one a state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp

from reps_opt.divergences.base import Conjugate, Divergence, group_max, softmax_within
from reps_opt.processes.graph import IntArray
from reps_opt.tolerances import ROUNDING, TINY
from reps_opt.validation import FloatArray, read_only


class ConditionalKL(Divergence):
    r"""Conditional KL :math:`\sum_{s,a} x(s,a) \log(\pi(a|s) / \pi_q(a|s))` with :math:`\pi = x / \sum_a x`, in nats.

    It asks nothing of the state distribution, so that its conjugate on the simplex is a maximum over states,
    :math:`D^*(y) = \max_s \log\sum_a \pi_q e^{y}`: not smooth, and solved by soft Bellman backups instead.

    Parameters
    ----------
    reference
        pi_q (n,), positive; a state's may sum to less than one, when some of its actions are out of reach.
    group
        State (n,) of each pair, 0 ... m - 1.

    Examples
    --------
    >>> import numpy as np
    >>> ball = ConditionalKL(np.full(4, 0.5), np.array([0, 0, 1, 1]))
    >>> ball.value(np.array([0.1, 0.1, 0.4, 0.4]))
    0.0
    """

    smooth = False
    parametric = True

    def __init__(self, reference: FloatArray, group: IntArray) -> None:
        self.reference = read_only(reference)
        self.group = group
        self.n_groups = int(group.max()) + 1
        self.log_reference = np.log(reference)

    def value(self, x: FloatArray) -> float:
        mass = np.bincount(self.group, weights=x, minlength=self.n_groups)
        near = self.reference * mass[self.group]
        return float(scipy.special.kl_div(x, near).sum() + x.sum() - near.sum())

    def gradient(self, x: FloatArray) -> FloatArray:
        return np.log(np.maximum(x, TINY) / (self.reference * self.state_sums(x)[self.group]))

    def hessian(self, x: FloatArray) -> Any:
        sums = self._sums()
        within = sums.T @ sp.diags_array(1.0 / np.maximum(self.state_sums(x), TINY)) @ sums
        return sp.diags_array(1.0 / np.maximum(x, TINY)) - within

    def state_sums(self, values: FloatArray) -> FloatArray:
        """Sums (m,), or (m, k), of values (n,), or (n, k), over each state's actions."""
        return self._sums() @ values

    def pieces(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The functions (m,) of which the conjugate is the maximum, one a state, and their gradients (n,), a policy."""
        conditional, partition = softmax_within(self.log_reference + y, self.group, self.n_groups)
        return partition, conditional

    def conjugate(self, y: FloatArray) -> Conjugate:
        partition, conditional = self.pieces(y)
        best = int(np.argmax(partition))
        value = float(partition[best])
        return Conjugate(value, np.where(self.group == best, conditional, 0.0), np.zeros_like(y), value)

    def within(self, y: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
        """Softmax of ``log pi_q + y`` within each group."""
        return softmax_within(self.log_reference + y, group, n_groups)[0]

    def reach(self, y: FloatArray, room: float, centre: FloatArray) -> float:
        """Pinsker's inequality in every state, around pi_q, from the state where the mean of y is largest."""
        total = np.bincount(self.group, weights=self.reference)
        mean = np.bincount(self.group, weights=self.reference * y)
        spread = group_max(y, self.group, self.n_groups) + group_max(-y, self.group, self.n_groups)
        if np.abs(total - 1).max() > ROUNDING:
            return math.inf
        mass = float(centre.sum())
        return mass * (math.sqrt(room / (2 * mass)) * float(spread.max()) + float(mean.max())) - float(centre @ y)

    def _sums(self) -> sp.csr_array:
        """Matrix (m, n) that sums over the actions of each state."""
        n = self.group.size
        return sp.csr_array((np.ones(n), (self.group, np.arange(n))), shape=(self.n_groups, n))

    def expression(self, cp: Any, x: Any, reference: Any = None) -> Any:
        mass = self._sums().T @ (self._sums() @ x)
        return cp.sum(cp.rel_entr(x, cp.multiply(self.reference if reference is None else reference, mass)))

    def dual_constraints(self, cp: Any, y: Any, eta: Any, reference: Any = None) -> dict[str, Any]:
        n = self.group.size
        scaled = cp.Variable(n, name="partition")  # >= eta exp(y / eta)
        total = self._sums() @ cp.multiply(self.reference if reference is None else reference, scaled)
        return {"kl": cp.ExpCone(y, eta * np.ones(n), scaled), "normalisation": total <= eta}
