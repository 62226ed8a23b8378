"""What belongs to the whole process, shared by its threads: how many threads BLAS uses, and who hears warnings.

Threads of BLAS help large products, and cost small ones many times their time where the machine is busy: they wait for
each other. So the library's small work is done within :func:`limited`.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Shared:
    """A change to the whole process that the first thread to enter makes, and the last to leave undoes.

    A function may be decorated with it, instead of having a block.
    """

    def __init__(self, change: Callable[[], Callable[[], None] | None]) -> None:
        self.change = change
        self.lock = threading.Lock()
        self.depth = 0
        self.undo: Callable[[], None] | None = None
        self.own = threading.local()

    def __call__(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        own = self.own

        @wraps(function)
        def within(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            if getattr(own, "depth", 0):  # entering once more would cost a microsecond
                return function(*args, **kwargs)
            with self:
                return function(*args, **kwargs)

        return within

    def __enter__(self) -> None:
        with self.lock:
            if self.depth == 0:
                self.undo = self.change()
            self.depth += 1
        self.own.depth = getattr(self.own, "depth", 0) + 1

    def __exit__(self, *raised: object) -> None:
        self.own.depth -= 1
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.undo is not None:
                self.undo()
                self.undo = None


class _Library(NamedTuple):
    """How many threads a numerical library uses: to be read, and to be set."""

    used: Callable[[], int]
    set_count: Callable[[int], None]


@lru_cache(maxsize=2)
def _libraries(torch_loaded: bool) -> list[_Library]:
    """The libraries of this process, looked for once: NumPy's BLAS, that of SciPy, which may bring its own, and torch.

    Looking for them takes milliseconds, and torch is none of them where nobody has imported it.
    """
    import scipy.linalg  # noqa: F401  loads the library that is looked for
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    libraries = [_Library(_counter(blas), partial(_set_blas, blas)) for blas in found]
    if torch_loaded:
        torch = sys.modules["torch"]
        libraries.append(_Library(torch.get_num_threads, torch.set_num_threads))
    return libraries


def _counter(blas: Any) -> Callable[[], int]:
    """How many threads it uses, by OpenBLAS's own function where that is found: threadpoolctl looks for it at every
    call, which takes as long as a tenth of the smallest solve."""
    names = [f"{before}openblas_get_num_threads{after}" for before in ("scipy_", "") for after in ("64_", "")]
    openmp = getattr(blas, "threading_layer", "") == "openmp"
    own = [] if openmp else [getattr(blas.dynlib, name) for name in names if hasattr(blas.dynlib, name)]
    found: Callable[[], int] = own[0] if own and own[0]() == blas.get_num_threads() else blas.get_num_threads
    return found


def _set_blas(blas: Any, count: int) -> None:
    """Set the number from whatever thread; threadpoolctl keeps it to the one that set it first: we count ourselves."""
    if hasattr(blas, "clear_controlling_thread"):
        blas.clear_controlling_thread(force=True)
    blas.set_num_threads(count)
    if hasattr(blas, "clear_controlling_thread"):
        blas.clear_controlling_thread(force=True)


_before = 1
"""Threads that BLAS had when it was limited."""


def _limit() -> Callable[[], None] | None:
    global _before
    libraries = _libraries("torch" in sys.modules)
    for library in libraries:
        if library.used() != 1:
            break
    else:
        _before = 1
        return None
    threaded = [(library, used) for library in libraries if (used := library.used()) != 1]
    _before = max(used for _, used in threaded)
    for library, _ in threaded:
        library.set_count(1)

    def undo() -> None:
        for library, used in threaded:
            library.set_count(used)

    return undo


def _silence() -> Callable[[], None]:
    filters = warnings.catch_warnings()
    filters.__enter__()
    warnings.simplefilter("ignore")
    return lambda: filters.__exit__(None, None, None)


_LIMITED, _QUIET = _Shared(_limit), _Shared(_silence)


def limited() -> _Shared:
    """A block, or a function's decorator, that lets BLAS and torch use one thread, and restores what they used.

    That is for the whole process. It may be entered again within itself, and by several threads at once: the last to
    leave restores. Entering costs ten microseconds where there were more threads, and one or two where there were not.
    Sums are taken in the same order whatever the machine's number of threads, so that answers are the same bit for bit.

    Examples
    --------
    >>> from threadpoolctl import threadpool_info
    >>> with limited():
    ...     with limited():
    ...         print({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
    {1}
    """
    return _LIMITED


def limit_methods(cls: type, names: Collection[str]) -> None:
    """Let those of a class's own methods that have one of these names work within :func:`limited`."""
    for name in vars(cls).keys() & names:
        setattr(cls, name, limited()(vars(cls)[name]))


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
    return _QUIET


Part = TypeVar("Part")
_WORKING = threading.local()


def in_parallel(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """What work makes of each part, in their order, on as many threads as BLAS would have had; on one within another.

    For work that NumPy does outside of Python's lock, on parts that do not depend on the number of threads: then
    neither do the results, bit for bit. Each part is BLAS's on one thread.

    Examples
    --------
    >>> list(in_parallel(lambda part: sum(part), [[1, 2], [3, 4]]))
    [3, 7]
    """
    with limited():
        count = min(_before, len(parts))
        if count < 2 or getattr(_WORKING, "busy", False):
            yield from map(work, parts)
            return
        yield from _pool(_before, os.getpid()).map(work, parts)


@lru_cache(maxsize=1)
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(count, "reps_opt", initializer=lambda: setattr(_WORKING, "busy", True))
