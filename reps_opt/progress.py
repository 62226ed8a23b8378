"""Progress bars: one helper, so that every loop that takes a while says so in the same way."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")

PATIENCE = 1.0
"""Seconds that a loop may take before its bar appears; quick ones stay silent."""


def progress(
    iterable: Iterable[Item], total: int | None = None, label: str = "", show: bool | None = None
) -> Generator[Item, Any, None]:
    """Pass the items on, with a bar on standard error for whoever waits longer than a second.

    Parameters
    ----------
    iterable
        What to go through; a generator is consumed lazily, and closed when the loop is left early.
    total
        How many items to expect; by default ``len(iterable)`` where it has one.
    label
        What is being done, in front of the bar.
    show
        True or False; None shows the bar only where standard error is a terminal. True shows it at once.

    Yields
    ------
    Item
        The items, unchanged and in order.

    Examples
    --------
    >>> from reps_opt.progress import progress
    >>> sum(progress(range(5), label="episodes", show=False))
    10
    """
    patience = PATIENCE if show is None else 0.0
    if show is None:
        show = sys.stderr is not None and sys.stderr.isatty()
    if not show:
        yield from iterable
        return
    from tqdm.auto import tqdm

    with tqdm(iterable, total=total, desc=label or None, delay=patience, leave=False, dynamic_ncols=True) as bar:
        yield from bar
