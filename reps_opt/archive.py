"""The library's own objects as bytes and back: what makes a saved solution one that remembers its problem.

An object is stored by its fields, and rebuilt by setting them: only classes of this library, never one that a file
chooses from elsewhere. Functions and objects of other libraries cannot be stored; where a class names a field among its
``spared`` it is left out, and missed with a warning.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import warnings
from functools import cached_property
from typing import Any

import numpy as np

from reps_opt.storage import arrays_in
from reps_opt.trees import Named, decode, encode
from reps_opt.validation import read_only

FORMAT = 1
DESCRIPTION = "description"

HOMES = ("certificate", "constraints", "divergences", "hints", "metrics", "problem", "problems", "processes", "program")
"""Modules and packages whose classes are stored, beside ``solution``."""


def pack(value: Any, name: str) -> bytes:
    """An object as the bytes of an npz file of plain arrays.

    Raises
    ------
    TypeError
        If it holds what cannot be stored; the message says where.
    """
    arrays: Named = {}
    tree = {"format": FORMAT, "value": encode(value, arrays, name, _taken_apart)}
    arrays[DESCRIPTION] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)  # who stores the bytes compresses them, once
    return file.getvalue()


def unpack(content: bytes) -> Any:
    """The object of :func:`pack`.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError
        For other bytes, and for classes that are not this library's.

    Examples
    --------
    >>> from reps_opt import MDP
    >>> mdp = MDP([[[1.0]]], [[2.0]], state_labels=["here"])
    >>> unpack(pack(mdp, "mdp")) == mdp
    True
    """
    arrays = arrays_in(content)
    tree = json.loads(arrays.pop(DESCRIPTION).tobytes())
    if tree.get("format") != FORMAT:
        raise ValueError(f"format {tree.get('format')!r}, expected {FORMAT}")
    return decode(tree["value"], {name: read_only(array) for name, array in arrays.items()}, _put_together)


def _taken_apart(value: Any, arrays: Named, where: str) -> dict[str, Any]:
    kind = type(value)
    if not _is_ours(kind.__module__):
        raise TypeError(f"{where} is a {kind.__module__}.{kind.__qualname__}: it cannot be stored")
    fields = {}
    for name, part in _state(value).items():
        try:
            fields[name] = encode(part, arrays, f"{where}.{name}", _taken_apart)
        except TypeError:
            if name not in getattr(kind, "spared", ()):
                raise
            fields[name] = {"spared": f"{where}.{name}, {type(part).__module__}.{type(part).__qualname__}"}
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}


def _state(value: Any) -> dict[str, Any]:
    """What an object consists of, without what it computes."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if "__getstate__" in dir(type(value)) and type(value).__getstate__ is not object.__getstate__:
        return dict(value.__getstate__())
    parts = [item for kind in type(value).__mro__ for item in vars(kind).items()]
    computed = {name for name, part in parts if isinstance(part, cached_property)}
    return {name: part for name, part in vars(value).items() if name not in computed}


def _is_ours(module: str) -> bool:
    package, _, rest = module.partition(".")
    return package == "reps_opt" and rest.split(".")[0] in (*HOMES, "solution")


def _put_together(tree: dict[str, Any], arrays: Named) -> Any:
    if "spared" in tree:
        warnings.warn(f"{tree['spared']}, could not be stored and is None now", UserWarning, stacklevel=2)
        return None
    module, _, name = tree["class"].partition(":")
    kind = getattr(importlib.import_module(module), name) if _is_ours(module) else None
    if not isinstance(kind, type) or kind.__module__ != module:
        raise ValueError(f"{tree['class']!r} is no class that can be loaded")
    made: Any = object.__new__(kind)
    fields = {name: decode(part, arrays, _put_together) for name, part in tree["fields"].items()}
    if dataclasses.is_dataclass(kind) and fields.keys() != {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"{tree['class']} has other fields than {sorted(fields)}")
    made.__dict__.update(fields)
    return made
