"""What the methods that descend a dual step by step have in common: how far a step may go, and when it is enough."""

LARGEST_LOG_STEP = 2.0
"""Largest change of any log eta in one iteration."""

LARGEST_TRAVEL = 1.0
"""Largest KL(new || old) between the primal points of two iterations: the Hessian stays comparable within it.

Where there are several balls it is that of each simplex, otherwise of all coordinates together.
"""

SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant (Nocedal and Wright 2006, equation 3.4)."""

SHORTEST_STEP = 1e-10
"""Share of a step at which a line search gives up."""

PROVEN = 1e-6
"""How far below every feasible score the dual must fall, in ranges of the objective, to prove that none is feasible."""
