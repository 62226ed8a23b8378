"""What belongs to the whole process, shared by its threads: how many threads BLAS uses, and who hears warnings.

Threads of BLAS help large products, and cost small ones many times their time where the machine is busy: they wait for
each other. So the library's small work is done within :func:`limited`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


class _State:
    """Who is inside, and what to restore when the last leaves."""

    lock = threading.Lock()
    depth = 0
    limiter: Any = None


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


@contextmanager
def limited() -> Iterator[None]:
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
    with _State.lock:
        if _State.depth == 0:
            _free()
            _State.limiter = _controller().limit(limits=1)
        _State.depth += 1
    try:
        yield
    finally:
        with _State.lock:
            _State.depth -= 1
            if _State.depth == 0:
                _free()
                _State.limiter.restore_original_limits()
                _State.limiter = None
                _free()


class _Quiet:
    """Who is inside, and which filters to restore when the last leaves."""

    lock = threading.Lock()
    depth = 0
    saved: Any = None


@contextmanager
def quietly() -> Iterator[None]:
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
    with _Quiet.lock:
        if _Quiet.depth == 0:
            _Quiet.saved = warnings.catch_warnings()
            _Quiet.saved.__enter__()
            warnings.simplefilter("ignore")
        _Quiet.depth += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0:
                _Quiet.saved.__exit__(None, None, None)
                _Quiet.saved = None
