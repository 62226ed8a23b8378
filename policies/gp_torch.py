"""gpytorch kernels behind scikit-learn's kernel protocol: the one place where the Gaussian process meets torch.

Shapes: H raw hyper-parameters; everything in float64 on the CPU. Priors registered on the kernel count; `theta` holds
gpytorch's raw (unconstrained) parameters, so its constraints hold without bounds.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from reps_opt.validation import FloatArray


class GPyTorchKernel:
    """Adapter of a gpytorch kernel; the caller's module is copied, never changed.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():  # gpytorch's own imports warn of torch's deprecations
    ...     warnings.simplefilter("ignore")
    ...     import gpytorch
    >>> kernel = GPyTorchKernel(gpytorch.kernels.MaternKernel(nu=2.5))
    >>> kernel(np.zeros((1, 2)), np.zeros((1, 2)))
    array([[1.]])
    """

    def __init__(self, module: Any) -> None:
        self.module = copy.deepcopy(module).double().cpu()

    @property
    def theta(self) -> FloatArray:
        """Raw parameters that require gradients, flattened, shape (H,)."""
        return np.concatenate([np.zeros(0), *(p.detach().numpy().reshape(-1) for p in self._parameters())])

    @property
    def bounds(self) -> FloatArray:
        """No bounds on raw parameters, shape (H, 2)."""
        return np.tile([-np.inf, np.inf], (len(self.theta), 1))

    def _parameters(self) -> list[Any]:
        return [p for p in self.module.parameters() if p.requires_grad]

    def clone_with_theta(self, theta: FloatArray) -> GPyTorchKernel:
        """A copy with these raw parameters."""
        kernel = GPyTorchKernel(self.module)
        start = 0
        with torch.no_grad():
            for p in kernel._parameters():
                p.copy_(torch.as_tensor(theta[start : start + p.numel()]).reshape(p.shape))
                start += p.numel()
        return kernel

    def _matrix(self, X: ArrayLike, Z: ArrayLike | None) -> Any:
        left = torch.as_tensor(np.array(X, dtype=np.float64))
        right = left if Z is None else torch.as_tensor(np.array(Z, dtype=np.float64))
        return self.module(left, right).to_dense()

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Kernel matrix (N, M)."""
        with torch.no_grad():
            return self._matrix(X, Y).numpy()

    def diag(self, X: ArrayLike) -> FloatArray:
        """Diagonal of the kernel matrix, shape (N,)."""
        with torch.no_grad():
            return self.module(torch.as_tensor(np.array(X, dtype=np.float64)), diag=True).numpy()

    def contract_gradient(self, X: FloatArray, Z: FloatArray | None, K: FloatArray, G: FloatArray) -> FloatArray:
        """``sum_ij G_ij d k(x_i, z_j) / d theta`` by automatic differentiation, shape (H,)."""
        return self._gradient(torch.sum(self._matrix(X, Z) * torch.as_tensor(np.ascontiguousarray(G))))

    def log_prior(self) -> tuple[float, FloatArray]:
        """Sum of the registered priors' log-densities, and its gradient (H,)."""
        terms = [prior.log_prob(closure(module)).sum() for _, module, prior, closure, _ in self.module.named_priors()]
        if not terms:
            return 0.0, np.zeros(len(self.theta))
        total = torch.stack(terms).sum()
        return float(total.detach()), self._gradient(total)

    def _gradient(self, scalar: Any) -> FloatArray:
        parameters = self._parameters()
        parts = torch.autograd.grad(scalar, parameters, allow_unused=True)
        zeros = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, parts, strict=True))
        return np.concatenate([np.zeros(0), *(g.numpy().reshape(-1) for g in zeros)])
