"""Saving and loading fitted policies without pickle: one npz file of plain arrays, and a JSON description.

The description is a tree; arrays in it are references into the file. Only classes on the list below are rebuilt, and
only by setting attributes (gpytorch's kernels by their constructors, from numbers): loading a file from a stranger
runs none of its code. Predictions of a loaded policy are bit-identical.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reps_opt.storage import MALFORMED, atomic_write, read_arrays
from reps_opt.trees import decode, encode

FORMAT = 1
DESCRIPTION = "description.json"

CLASSES = {
    name: module
    for module, names in {
        "policies.tabular": "TabularPolicy",
        "policies.linear": "LinearGaussianPolicy",
        "policies.rbf": "RBFPolicy",
        "policies.gp": "GaussianProcessPolicy",
        "policies.softmax": "SoftmaxPolicy",
        "policies.neural": "NeuralPolicy NeuralCategoricalPolicy",
        "policies.network": "Network",
        "policies.features": "RBFFeatures FourierFeatures PolynomialStates",
        "policies.kernels": "SquaredExponential",
        "policies.gp_torch": "GPyTorchKernel",
        "policies.gp_posterior": "Posterior KernelBasis FourierFunctions",
        "sklearn.gaussian_process.kernels": "RBF Matern RationalQuadratic ExpSineSquared DotProduct ConstantKernel "
        "WhiteKernel Sum Product Exponentiation",
        "sklearn.preprocessing": "StandardScaler MinMaxScaler PolynomialFeatures",
        "sklearn.frozen": "FrozenEstimator",
        "sklearn.decomposition": "PCA",
        "sklearn.pipeline": "Pipeline",
        "sklearn.kernel_approximation": "RBFSampler Nystroem",
    }.items()
    for name in names.split()
}


def save(policy: Any, path: str | Path) -> None:
    """Write a fitted policy to one file.

    The file is written beside its destination, synced and renamed: a process killed at any moment leaves the old one
    whole.

    Parameters
    ----------
    policy
        Any policy of this package; its features and kernels must be this package's, of the scikit-learn classes listed
        in ``policies.storage.CLASSES``, or of the gpytorch ones in ``policies.gp_torch_storage``, in any composition.
    path
        Destination; written as named, with no suffix added.

    Notes
    -----
    scikit-learn objects inside are stored by their attributes, and so want the scikit-learn version that fitted them.

    Raises
    ------
    TypeError
        If the policy holds an object that is not on the list (a class of your own, a random generator); the message
        says where.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from policies import LinearGaussianPolicy
    >>> policy = LinearGaussianPolicy().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(policy, pathlib.Path(folder) / "policy.npz")
    ...     again = load(pathlib.Path(folder) / "policy.npz")
    >>> bool(again.predict([[0.3]]) == policy.predict([[0.3]]))
    True
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = {"format": FORMAT, "policy": encode(policy, arrays, type(policy).__name__, _encode)}
    arrays[DESCRIPTION] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: str | Path) -> Any:
    """Read a policy that :func:`save` wrote.

    Raises
    ------
    ValueError
        If the file is not such a file, is of a newer format, or names a class that is not on the list.
    """
    arrays = read_arrays(path)
    try:
        tree = json.loads(arrays.pop(DESCRIPTION).tobytes())
        if tree.get("format") != FORMAT:
            raise ValueError(f"it has format {tree.get('format')}, and this version reads format {FORMAT}")
        return decode(tree["policy"], arrays, _decode)
    except MALFORMED as error:
        raise ValueError(f"{path} is not a saved policy: {error}") from None


def _encode(value: Any, arrays: dict[str, NDArray[Any]], where: str) -> Any:
    """Tree of an object: one of a listed class by its attributes, or a kernel of gpytorch."""
    name = type(value).__name__
    if type(value).__module__.startswith("gpytorch.kernels"):
        return {"gpytorch": encode(_described(value, where), arrays, where, _encode)}
    if CLASSES.get(name) and type(value) is _class(name):
        return {"class": name, "state": {k: encode(v, arrays, f"{where}.{k}", _encode) for k, v in vars(value).items()}}
    raise TypeError(f"{where} is a {type(value).__module__}.{name}: it cannot be saved (see policies.storage.CLASSES)")


def _described(kernel: Any, where: str) -> Any:
    from policies.gp_torch_storage import describe

    try:
        return describe(kernel)
    except TypeError as error:
        raise TypeError(f"{where} is {error}: it cannot be saved (see policies.gp_torch_storage.KERNELS)") from None


def _decode(tree: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
    if "gpytorch" in tree:
        from policies.gp_torch_storage import rebuild

        return rebuild(decode(tree["gpytorch"], arrays, _decode))
    value: Any = object.__new__(_class(tree["class"]))
    value.__dict__.update({k: decode(v, arrays, _decode) for k, v in tree["state"].items()})
    return value


def _class(name: str) -> type:
    """The listed class of this name; ValueError for any other, so that a file cannot choose what is built."""
    if name not in CLASSES:
        raise ValueError(f"class {name!r} is not among those that can be loaded: {sorted(CLASSES)}")
    found = importlib.import_module(CLASSES[name])
    return getattr(found, name)
