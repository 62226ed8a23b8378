"""Values: objects that are made once, compared by what they were made of, and replaced instead of changed.

A subclass is a frozen dataclass (``@value``). Whatever it computes later is kept beside its fields by
``cached_property``, and is neither compared nor pickled.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, dataclass_transform

import numpy as np
import scipy.sparse as sp

from reps_opt.validation import warn_renamed

T = TypeVar("T")

if TYPE_CHECKING or sys.version_info >= (3, 12):
    cached_property = functools.cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801
        """That of Python 3.12: 3.11 takes a lock, which costs a microsecond a value, ten for the smallest problem."""

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            found = instance.__dict__[self.attrname] = self.func(instance)
            return found


@dataclass_transform(frozen_default=True, eq_default=False)
def value(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose equality, repr and pickling are those of :class:`Value`.

    An ``__init__`` that the class writes out itself stays: it validates, and stores its fields by ``_assign``.
    """
    fields = bool(inspect.get_annotations(cls))  # without fields of its own a class is made as its parent is
    made = dataclasses.dataclass(frozen=True, eq=False, repr=False, init=fields)(cls)
    del made.__setattr__, made.__delattr__  # those of Value say how to make another
    renamed: dict[str, str] = cls.__dict__.get("_renamed", {})
    if renamed:
        type.__setattr__(made, "__init__", _with_old_names(made.__init__, renamed))
    return made


@dataclass_transform(frozen_default=True)
def frozen(*, eq: bool = True) -> Callable[[type[T]], type[T]]:
    """Class decorator: a frozen dataclass whose ``__init__`` fills the instance's dictionary at once.

    That of :mod:`dataclasses` passes a guard for every field, and takes three times as long: over the certificate, the
    answer and the balls a tenth of the smallest solve.
    """

    def make(cls: type[T]) -> type[T]:
        made = dataclasses.dataclass(frozen=True, eq=eq)(cls)
        type.__setattr__(made, "__init__", _filling(made))
        return made

    return make


def _filling(made: Any) -> Callable[..., None]:
    """An ``__init__`` with the signature of a dataclass's own."""
    absent = dataclasses.MISSING
    known: dict[str, Any] = {"_absent": absent}
    arguments, filled = ["self"], []
    for field in dataclasses.fields(made):
        name = field.name
        known |= {f"_{name}": field.default, f"_new_{name}": field.default_factory}
        if field.default_factory is not absent:
            arguments.append(f"{name}=_absent")
            filled.append(f"{name}=_new_{name}() if {name} is _absent else {name}")
        else:
            arguments.append(name if field.default is absent else f"{name}=_{name}")
            filled.append(f"{name}={name}")
    checked = "; self.__post_init__()" if hasattr(made, "__post_init__") else ""
    body = f"self.__dict__.update({', '.join(filled)}){checked}"
    scope: dict[str, Any] = {}
    exec(f"def __init__({', '.join(arguments)}): {body}", known, scope)
    init: Callable[..., None] = scope["__init__"]
    return functools.update_wrapper(init, made.__init__, functools.WRAPPER_ASSIGNMENTS, ())


def _with_old_names(init: Callable[..., None], renamed: Mapping[str, str]) -> Callable[..., None]:
    """The same ``__init__``, which for one release also takes arguments by the names they had, with a warning."""

    @functools.wraps(init)
    def accepting(self: Any, *args: Any, **kwargs: Any) -> None:
        for old, new in renamed.items():
            if old in kwargs:
                warn_renamed(old, new)
                kwargs[new] = kwargs.pop(old)
        init(self, *args, **kwargs)

    return accepting


class OldName:
    """A reading under the name it had: it warns, and goes with the next release."""

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        warn_renamed(self.old, self.new)
        return operator.attrgetter(self.new)(instance)


class Value:
    """Base class of problems and solutions: frozen, comparable, picklable.

    Examples
    --------
    >>> from reps_opt import EpisodicREPS
    >>> problem = EpisodicREPS([0.0, 1.0], epsilon=0.1)
    >>> problem.replace(epsilon=0.2).epsilon, problem == EpisodicREPS([0.0, 1.0], epsilon=0.1)
    (0.2, True)
    >>> problem.epsilon = 0.2
    Traceback (most recent call last):
    dataclasses.FrozenInstanceError: EpisodicREPS cannot be changed: make another with .replace(epsilon=...)
    """

    def replace(self, **changes: Any) -> Self:
        """Make another of the same kind with some arguments changed; the original stays as it is.

        Raises
        ------
        TypeError
            For an argument that there is not.
        """
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(
            f"{type(self).__name__} cannot be changed: make another with .replace({name}=...)"
        )

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__} cannot be changed: its {name} cannot be deleted")

    def _assign(self, **fields: Any) -> None:
        """Set validated fields while the object is being made."""
        self.__dict__.update(fields)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(same(getattr(self, name), getattr(other, name)) for name in self._compared())

    __hash__ = None  # type: ignore[assignment]  # arrays cannot be hashed

    @classmethod
    def _compared(cls) -> list[str]:
        """Names of the fields that make two of a kind equal."""
        return [field.name for field in dataclasses.fields(cls) if field.compare]  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: _frozen(content) for name, content in state.items()})


def _frozen(content: Any) -> Any:
    """An array as it was before pickling, which forgets that it is read-only."""
    if isinstance(content, np.ndarray):
        content.flags.writeable = False
    return content


def altered(given: T, **changes: Any) -> T:
    """A copy of a frozen dataclass with some fields changed, for changes that are valid: a tenth of the time that
    ``dataclasses.replace`` takes, which checks them all anew."""
    twin = object.__new__(type(given))
    twin.__dict__.update(given.__dict__)
    twin.__dict__.update(changes)
    return twin


def same(a: Any, b: Any) -> bool:
    """Whether two fields hold the same: arrays and sparse matrices entry by entry, NaN equal to NaN."""
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape != b.shape:
            return False
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))
    if sp.issparse(a) or sp.issparse(b):
        return bool(sp.issparse(a) and sp.issparse(b) and a.shape == b.shape and (a != b).nnz == 0)
    if hasattr(a, "dask") and hasattr(b, "dask"):
        return bool(a.name == b.name)  # a dask array's name is a hash of what computes it
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if dataclasses.is_dataclass(a) and type(a) is type(b) and not isinstance(a, Value | type):
        return all(same(getattr(a, part.name), getattr(b, part.name)) for part in dataclasses.fields(a) if part.compare)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    return bool(a == b)
