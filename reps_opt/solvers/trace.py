"""What a solver did, one row an iteration: kept for the statistics, and printed as it grows where somebody watches."""

from __future__ import annotations


class Trace(list[dict[str, float]]):
    """Rows of numbers by column, the iteration counted from zero.

    Parameters
    ----------
    verbose
        Print every row when it is added, under a header at first.
    every
        Print only every so many rows: first-order methods take thousands.

    Examples
    --------
    >>> from reps_opt.solvers.trace import Trace
    >>> trace = Trace(verbose=True)
    >>> for eta in (1.0, 0.5):
    ...     trace.add(eta=eta, residual=eta**8)
      it            eta       residual
       0   1.000000e+00   1.000000e+00
       1   5.000000e-01   3.906250e-03
    >>> len(trace)
    2
    """

    def __init__(self, verbose: bool = False, every: int = 1) -> None:
        super().__init__()
        self.verbose = verbose
        self.every = every

    def add(self, **row: float) -> None:
        """Append a row, and print it where it is its turn."""
        if self.verbose and not self:
            print("  it" + "".join(f"{name:>15}" for name in row))
        if self.verbose and len(self) % self.every == 0:
            print(f"{len(self):4d}" + "".join(f"{value:15.6e}" for value in row.values()), flush=True)
        self.append(row)
