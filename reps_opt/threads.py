"""What belongs to the whole process, shared by its threads: how many threads BLAS uses, and who hears warnings.

Threads of BLAS help large products, and cost small ones many times their time where the machine is busy: they wait for
each other. So the library's small work is done within :func:`limited`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any


class _Shared:
    """A change to the whole process that the first thread to enter makes, and the last to leave undoes."""

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        self.change = change
        self.lock = threading.Lock()
        self.depth = 0
        self.undo: Callable[[], None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        with self.lock:
            if self.depth == 0:
                self.undo = self.change()
            self.depth += 1
        try:
            yield
        finally:
            with self.lock:
                self.depth -= 1
                if self.depth == 0:
                    assert self.undo is not None
                    self.undo()
                    self.undo = None


@lru_cache(maxsize=1)
def _controller() -> Any:
    """The BLAS libraries of this process, looked for once: of NumPy and of SciPy, which may bring its own."""
    import scipy.linalg  # noqa: F401  loads the library that is looked for
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _free() -> None:
    """Let this thread set the number, which threadpoolctl keeps to the thread that set it first: we count ourselves."""
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def _limit() -> Callable[[], None]:
    _free()
    limiter = _controller().limit(limits=1)

    def undo() -> None:
        _free()
        limiter.restore_original_limits()
        _free()

    return undo


def _silence() -> Callable[[], None]:
    filters = warnings.catch_warnings()
    filters.__enter__()
    warnings.simplefilter("ignore")
    return lambda: filters.__exit__(None, None, None)


_LIMITED, _QUIET = _Shared(_limit), _Shared(_silence)


def limited() -> AbstractContextManager[None]:
    """A block in which BLAS uses one thread, in the whole process; what it used before is restored at the end.

    It may be entered again within itself, and by several threads at once: the last to leave restores. Entering costs
    some microseconds, and less within another. Sums are taken in the same order whatever the machine's number of
    threads, so that answers are the same bit for bit.

    Examples
    --------
    >>> with limited():
    ...     with limited():
    ...         print(set(library["num_threads"] for library in _controller().info()))
    {1}
    """
    return _LIMITED.held()


def quietly() -> AbstractContextManager[None]:
    """A block whose warnings nobody hears, for a routine of others whose answer is judged anyway.

    The filters of warnings belong to the process: ``warnings.catch_warnings`` in two threads at once lets one restore
    them while the other still needs them changed. Here the last to leave restores.

    Examples
    --------
    >>> import warnings
    >>> with quietly():
    ...     with quietly():
    ...         pass
    ...     warnings.warn("unheard", UserWarning, stacklevel=1)
    """
    return _QUIET.held()
