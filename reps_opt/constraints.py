"""What a point must satisfy beside its balls: named linear rows, and the set it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from reps_opt.processes.graph import BoolArray, IntArray
from reps_opt.tolerances import FEW_DENSE_ROWS, FEW_ENTRIES, MOST_TERMS, REMEMBERED
from reps_opt.validation import FloatArray, as_float_array
from reps_opt.values import cached_property


@dataclass(frozen=True, eq=False)
class Block:
    """Linear constraints of one name: ``matrix`` (k, n) and ``rhs`` (k,).

    The matrix is sparse, an array, or the transpose of :class:`~reps_opt.rows.Rows`: dense, maybe larger than memory.
    ``exact`` computes both in decimal numbers where they are known to more digits than a float has.
    """

    matrix: Any
    rhs: FloatArray
    exact: Callable[[], tuple[Any, Any]] | None = None

    @cached_property
    def alone(self) -> dict[tuple[str, bool], Any]:
        """The :class:`Stack` of this block alone, by its name and whether the domain is the simplex."""
        return {}

    @property
    def in_memory(self) -> Any:
        """The matrix as it is if sparse, else as an array."""
        return self.matrix if sp.issparse(self.matrix) or isinstance(self.matrix, np.ndarray) else self.matrix.T.array.T

    @property
    def dense(self) -> FloatArray:
        """The matrix as an array (k, n)."""
        matrix = self.in_memory
        return matrix.toarray() if sp.issparse(matrix) else matrix


class Equal(Block):
    """Rows ``matrix @ x == rhs``; their multipliers v have any sign."""


class AtMost(Block):
    """Rows ``matrix @ x <= rhs``; their multipliers nu are non-negative."""


@dataclass(frozen=True, eq=False)
class Simplex:
    """``x >= 0`` with mass one: altogether, or in each of several stretches of coordinates.

    Parameters
    ----------
    starts
        First coordinate (G,) of each stretch, increasing from zero; None for a single simplex. That each stretch has
        mass one must follow from the rows where there are several.
    mass
        What x sums to on a single simplex, where that is not one: then the divergence must grow in proportion to x, as
        a conditional KL does.
    """

    starts: IntArray | None = None
    mass: float = 1.0


class Space:
    """All of R^n."""

    starts = None
    mass = 1.0


class Stack:
    """The rows of a program on top of each other, computed when asked for and shared by programs that have the same.

    Parameters
    ----------
    rows
        Blocks by name.
    n
        Columns of each.
    simplex
        Whether arrays are made sparse for ``matrix``: solvers on the simplex take sparse rows.
    """

    def __init__(self, rows: Mapping[str, Block], n: int, simplex: bool) -> None:
        self.rows, self.n, self.simplex = rows, n, simplex

    @classmethod
    def of(cls, rows: Mapping[str, Block], n: int, simplex: bool) -> Stack:
        """The stack of some rows: of a single block the one that it remembers, whatever programs it is part of."""
        if not rows:
            return _no_rows(n, simplex)
        if len(rows) != 1:
            return cls(rows, n, simplex)
        ((name, block),) = rows.items()
        stack: Stack = block.alone.setdefault((name, simplex), cls(rows, n, simplex))
        return stack

    @cached_property
    def equalities(self) -> dict[str, Block]:
        return {name: block for name, block in self.rows.items() if not isinstance(block, AtMost)}

    @cached_property
    def inequalities(self) -> dict[str, Block]:
        return {name: block for name, block in self.rows.items() if isinstance(block, AtMost)}

    @cached_property
    def blocks(self) -> dict[str, Block]:
        return {**self.equalities, **self.inequalities}

    @cached_property
    def matrix(self) -> Any:
        """All rows (m, n): equalities, then inequalities; a single block that is no array stays what it is."""
        blocks = [*self.blocks.values()]
        if not blocks:
            return sp.csr_array((0, self.n))
        if len(blocks) == 1:
            matrix = blocks[0].matrix
            return sp.csr_array(matrix) if self.simplex and isinstance(matrix, np.ndarray) else matrix
        return sp.vstack([sp.csr_array(block.in_memory) for block in blocks], format="csr")

    @cached_property
    def transpose(self) -> Any:
        """``matrix.T`` (n, m), in row order."""
        if not self.rhs.size:
            return sp.csr_array((self.n, 0))
        return self.matrix.T.tocsr() if sp.issparse(self.matrix) else self.matrix.T

    @cached_property
    def table(self) -> FloatArray | None:
        """The rows as a dense array (m, n), where they are so few that a sparse one only costs more; else None."""
        if not 0 < self.rhs.size * self.n <= FEW_ENTRIES:
            return None
        matrices = [block.matrix for block in self.blocks.values()]
        if not all(sp.issparse(matrix) or (self.simplex and isinstance(matrix, np.ndarray)) for matrix in matrices):
            return None
        tables = [matrix.toarray() if sp.issparse(matrix) else np.ascontiguousarray(matrix) for matrix in matrices]
        return tables[0] if len(tables) == 1 else np.concatenate(tables)

    @cached_property
    def squares(self) -> sp.csc_array | None:
        """Matrix (m * m, n) whose product with weights is ``A diag(w) A'``, where that has few terms; else None."""
        columns, m = self.transpose, self.rhs.size
        width = np.diff(columns.indptr).astype(np.int64)
        terms = width**2
        if terms.sum() > MOST_TERMS:
            return None
        ends = np.append(0, np.cumsum(terms))
        column = np.repeat(np.arange(self.n), terms)
        place = np.arange(column.size) - ends[column]
        left, right = (columns.indptr[column] + side for side in np.divmod(place, width[column]))
        row = columns.indices[left].astype(np.int64) * m + columns.indices[right]
        return sp.csc_array((columns.data[left] * columns.data[right], row, ends), shape=(m * m, self.n))

    def gram(self, weights: FloatArray) -> FloatArray:
        """``A diag(w) A'`` (m, m) over all rows, an array of its own."""
        table, m = self.table, self.rhs.size
        if table is not None and m <= FEW_DENSE_ROWS:
            return (table * weights) @ table.T
        if self.squares is not None:
            return (self.squares @ weights).reshape(m, m)
        product: FloatArray = (self.matrix @ (sp.diags_array(weights) @ self.transpose)).toarray()
        return product

    @cached_property
    def rhs(self) -> FloatArray:
        blocks = [*self.blocks.values()]
        if len(blocks) == 1:
            return blocks[0].rhs
        return np.concatenate([block.rhs for block in blocks]) if blocks else np.zeros(0)

    @cached_property
    def every_row(self) -> BoolArray:
        """A mask (m,) of all rows."""
        return np.ones(self.rhs.size, dtype=bool)

    @cached_property
    def signed(self) -> BoolArray:
        n_equal = sum(block.rhs.size for block in self.equalities.values())
        return np.arange(self.rhs.size) >= n_equal


SIMPLEX = Simplex()


SPACE = Space()


def checked_block(block: Block, name: str, n: int) -> Block:
    """A block whose matrix fits n coordinates and whose right-hand side fits the matrix."""
    if not isinstance(block, Block):
        raise TypeError(f"rows[{name!r}] must be Equal(A, b) or AtMost(C, d), got {type(block).__name__}")
    rhs = as_float_array(block.rhs, f"rows[{name!r}].rhs", ("k",))
    if sp.issparse(block.matrix):
        matrix: Any = block.matrix if isinstance(block.matrix, sp.csc_array) else sp.csr_array(block.matrix)
        as_float_array(matrix.data, f"rows[{name!r}].matrix")
    elif hasattr(block.matrix, "T") and not isinstance(block.matrix, np.ndarray):
        matrix = block.matrix
    else:
        matrix = as_float_array(block.matrix, f"rows[{name!r}].matrix", (rhs.size, n))
    if tuple(matrix.shape) != (rhs.size, n):
        raise ValueError(f"rows[{name!r}] must have a matrix of shape ({rhs.size}, {n}), got {tuple(matrix.shape)}")
    return type(block)(matrix, rhs)


@lru_cache(maxsize=REMEMBERED)
def _no_rows(n: int, simplex: bool) -> Stack:
    """The stack of no rows, kept: looking through it takes as long as a small dual without rows."""
    return Stack({}, n, simplex)
