"""gpytorch kernels as plain facts, and back: class names, numbers and arrays, and no pickle.

A kernel is rebuilt by calling the constructor of a class on the lists below, and given its parameters afterwards. What
a constructor cannot give back (a subclass of the user's own, a prior on a function of a parameter, a constraint with
a transform of its own) is refused when it is saved, not lost.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

with warnings.catch_warnings():  # its imports warn of torch's deprecations
    warnings.simplefilter("ignore")
    import gpytorch

KERNELS: dict[str, tuple[str, ...]] = {
    "RBFKernel": (),
    "MaternKernel": ("nu",),
    "RQKernel": (),
    "PeriodicKernel": (),
    "CosineKernel": (),
    "LinearKernel": (),
    "PolynomialKernel": ("power",),
    "PiecewisePolynomialKernel": ("q",),
    "SpectralMixtureKernel": ("num_mixtures",),
    "ConstantKernel": (),
    "ScaleKernel": (),
    "AdditiveKernel": (),
    "ProductKernel": (),
}
"""Kernels, and the arguments of each that are attributes too."""

PRIORS: dict[str, tuple[str, ...]] = {
    "GammaPrior": ("concentration", "rate"),
    "NormalPrior": ("loc", "scale"),
    "LogNormalPrior": ("loc", "scale"),
    "HalfNormalPrior": ("scale",),
    "HalfCauchyPrior": ("scale",),
    "UniformPrior": ("low", "high"),
    "SmoothedBoxPrior": ("a", "b", "sigma"),
}
"""Priors, and the attributes that their constructors take, in order."""

CONSTRAINTS: dict[str, tuple[str, ...]] = {
    "Positive": (),
    "GreaterThan": ("lower_bound",),
    "LessThan": ("upper_bound",),
    "Interval": ("lower_bound", "upper_bound"),
}
"""Constraints, and their constructors' arguments."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}

Facts = dict[str, Any]


def describe(kernel: Any) -> Facts:
    """Everything it takes to build a gpytorch kernel again.

    Returns
    -------
    dict
        ``structure`` of class names and numbers, ``state`` of arrays by parameter name, ``fixed`` names of the
        parameters that are not learned, and the ``dtype``.

    Raises
    ------
    TypeError
        If some part is on none of the lists, or would not come back as it is.

    Examples
    --------
    >>> facts = describe(gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=1.5)))
    >>> facts["structure"]["class"], facts["structure"]["parts"][0]["arguments"]
    ('ScaleKernel', {'nu': 1.5})
    >>> rebuild(facts).base_kernel.nu
    1.5
    """
    state = {name: value.detach().cpu().numpy().copy() for name, value in kernel.state_dict().items()}
    dtype = str(next(iter(kernel.parameters()), torch.zeros(0)).dtype).removeprefix("torch.")
    fixed = [name for name, parameter in kernel.named_parameters() if not parameter.requires_grad]
    facts = {"structure": _structure(kernel), "state": state, "fixed": fixed, "dtype": dtype}
    try:
        again = rebuild(facts)
    except (RuntimeError, ValueError) as error:
        raise TypeError(
            f"a gpytorch {type(kernel).__name__} that its constructor does not give back: {error}"
        ) from None
    if repr(again) != repr(kernel):
        raise TypeError(f"a gpytorch {type(kernel).__name__} with parts that its constructor does not give back")
    return facts


def rebuild(facts: Facts) -> Any:
    """The kernel that :func:`describe` described; ValueError for a class or dtype that is on no list."""
    if facts["dtype"] not in DTYPES:
        raise ValueError(f"dtype {facts['dtype']!r} is not among {sorted(DTYPES)}")
    kernel = _build(facts["structure"]).to(DTYPES[facts["dtype"]])
    kernel.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in facts["state"].items()})
    for name, parameter in kernel.named_parameters():
        parameter.requires_grad_(name not in facts["fixed"])
    return kernel


def _structure(kernel: Any) -> Facts:
    """Class, arguments, priors and constraints of a kernel, and the same of the kernels it is made of."""
    name = _listed(kernel, KERNELS, gpytorch.kernels)
    if tuple(kernel._batch_shape):
        raise TypeError(f"a gpytorch {name} with a batch shape")
    arguments = {argument: _number(getattr(kernel, argument)) for argument in KERNELS[name]}
    if kernel.ard_num_dims is not None:
        arguments["ard_num_dims"] = int(kernel.ard_num_dims)
    elif name == "LinearKernel":  # keeps it in the shape of its variance only
        arguments["ard_num_dims"] = int(kernel.raw_variance.shape[-1])
    if kernel.active_dims is not None:
        arguments["active_dims"] = [int(i) for i in kernel.active_dims]
    parts = [kernel.base_kernel] if name == "ScaleKernel" else getattr(kernel, "kernels", [])
    return {
        "class": name,
        "arguments": arguments,
        "priors": {key: _prior(kernel, key, *registered) for key, registered in kernel._priors.items()},
        "constraints": {key.removeprefix("raw_"): _constraint(c) for key, c in kernel._constraints.items()},
        "parts": [_structure(part) for part in parts],
    }


def _prior(kernel: Any, key: str, prior: Any, closure: Any, _: Any) -> Facts:
    name = _listed(prior, PRIORS, gpytorch.priors)
    parameter: Any = getattr(kernel, key.removesuffix("_prior"), None)
    value = closure(kernel)
    if not torch.is_tensor(parameter) or parameter.shape != value.shape or not bool((parameter == value).all()):
        raise TypeError(f"a gpytorch {type(kernel).__name__} whose {key} is not on the parameter of that name")
    if getattr(prior, "_transform", None) is not None:
        raise TypeError(f"a gpytorch {name} with a transform of its own")
    return {"class": name, "arguments": [_number(getattr(prior, argument)) for argument in PRIORS[name]]}


def _constraint(constraint: Any) -> Facts:
    name = _listed(constraint, CONSTRAINTS, gpytorch.constraints)
    facts = {"class": name, "arguments": [_number(getattr(constraint, bound)) for bound in CONSTRAINTS[name]]}
    if repr(_member(facts, CONSTRAINTS, gpytorch.constraints)._transform) != repr(constraint._transform):
        raise TypeError(f"a gpytorch {name} constraint with a transform of its own")
    return facts


def _build(structure: Facts) -> Any:
    if structure["class"] not in KERNELS:
        raise ValueError(f"gpytorch kernel {structure['class']!r} is not among {sorted(KERNELS)}")
    options = dict(structure["arguments"])
    if "active_dims" in options:
        options["active_dims"] = tuple(options["active_dims"])
    for key, prior in structure["priors"].items():
        options[key] = _member(prior, PRIORS, gpytorch.priors)
    for key, constraint in structure["constraints"].items():
        options[key] = _member(constraint, CONSTRAINTS, gpytorch.constraints)
    return getattr(gpytorch.kernels, structure["class"])(*[_build(part) for part in structure["parts"]], **options)


def _member(facts: Facts, listed: dict[str, tuple[str, ...]], module: Any) -> Any:
    if facts["class"] not in listed:
        raise ValueError(f"{facts['class']!r} is not among {sorted(listed)}")
    arguments = [torch.tensor(value) if isinstance(value, list) else value for value in facts["arguments"]]
    return getattr(module, facts["class"])(*arguments)


def _listed(value: Any, listed: dict[str, tuple[str, ...]], module: Any) -> str:
    """The name of a listed class; TypeError for any other, its subclasses too."""
    name = type(value).__name__
    if name not in listed or type(value) is not getattr(module, name):
        raise TypeError(f"a gpytorch {name}")
    return name


def _number(value: Any) -> Any:
    """A plain number, or a list of them, from a number or a tensor."""
    return value.tolist() if torch.is_tensor(value) else value
