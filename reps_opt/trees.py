"""Objects as a tree of plain data that JSON takes, and arrays beside it: what files of solutions and policies hold.

Arrays in the tree are references by name. What is neither a number, a word, a list, a dictionary nor an array is left
to a hook, which decides what may be rebuilt: reading a file from a stranger runs none of its code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Named = dict[str, NDArray[Any]]


def encode(value: Any, arrays: Named, where: str, other: Callable[[Any, Named, str], Any]) -> Any:
    """Tree of a value; its arrays go to ``arrays`` under the path ``where``, and objects to ``other``.

    Raises
    ------
    TypeError
        For an array of objects, a dictionary with keys that are no words, and for what ``other`` does not take.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, np.generic):
        return {"scalar": encode(np.asarray(value), arrays, where, other)}
    if isinstance(value, np.ndarray):
        plain = np.array(value.tolist()) if value.dtype.hasobject else value
        if plain.dtype.hasobject:
            raise TypeError(f"{where} is an array of objects: it cannot be saved")
        arrays[where] = plain
        return {"array": where}
    if sp.issparse(value):
        rows = sp.csr_array(value)
        parts = {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr, "shape": rows.shape}
        return {"sparse": {k: encode(v, arrays, f"{where}.{k}", other) for k, v in parts.items()}}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encode(item, arrays, f"{where}.{i}", other) for i, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {str(k): encode(v, arrays, f"{where}.{k}", other) for k, v in value.items()}}
    return other(value, arrays, where)


def decode(tree: Any, arrays: Named, other: Callable[[dict[str, Any], Named], Any]) -> Any:
    """The value of a tree; ``other`` makes the objects.

    Examples
    --------
    >>> arrays = {}
    >>> tree = encode({"x": np.arange(3), "size": (1.5, None)}, arrays, "a", other=None)
    >>> tree, list(arrays)
    ({'dict': {'x': {'array': 'a.x'}, 'size': {'tuple': [{'float': '0x1.8000000000000p+0'}, None]}}}, ['a.x'])
    >>> decode(tree, arrays, other=None)
    {'x': array([0, 1, 2]), 'size': (1.5, None)}
    """
    if not isinstance(tree, dict):
        return tree
    if "float" in tree:
        return float.fromhex(tree["float"])
    if "array" in tree:
        return arrays[tree["array"]]
    if "scalar" in tree:
        return decode(tree["scalar"], arrays, other)[()]
    if "sparse" in tree:
        parts = {k: decode(v, arrays, other) for k, v in tree["sparse"].items()}
        return sp.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=parts["shape"])
    for kind in (list, tuple):
        if kind.__name__ in tree:
            return kind(decode(item, arrays, other) for item in tree[kind.__name__])
    if "dict" in tree:
        return {k: decode(v, arrays, other) for k, v in tree["dict"].items()}
    return other(tree, arrays)
