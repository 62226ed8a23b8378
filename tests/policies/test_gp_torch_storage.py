"""gpytorch kernels come back as they were, with priors and constraints; what would not is refused when saved."""

import json

import numpy as np
import pytest

from policies import GaussianProcessPolicy, load, save
from policies.storage import DESCRIPTION

pytest.importorskip("torch")


def build(gpytorch):
    k, p, c = gpytorch.kernels, gpytorch.priors, gpytorch.constraints
    tight = c.Interval(0.1, 10.0)
    gamma = p.GammaPrior(3.0, 6.0)
    return {
        "rbf": k.RBFKernel(ard_num_dims=2, lengthscale_prior=gamma, lengthscale_constraint=tight),
        "matern": k.MaternKernel(nu=1.5, lengthscale_prior=p.LogNormalPrior(0.0, 1.0)),
        "rational quadratic": k.RQKernel(alpha_constraint=c.GreaterThan(0.2)),
        "periodic": k.PeriodicKernel(period_length_prior=p.NormalPrior(3.0, 0.1)),
        "cosine": k.CosineKernel(period_length_constraint=c.LessThan(9.0)),
        "linear": k.LinearKernel(ard_num_dims=2, variance_prior=p.HalfCauchyPrior(1.0)),
        "polynomial": k.PolynomialKernel(power=2, offset_prior=p.UniformPrior(0.0, 3.0)),
        "piecewise": k.PiecewisePolynomialKernel(q=1, lengthscale_prior=p.HalfNormalPrior(2.0)),
        "mixture": k.SpectralMixtureKernel(num_mixtures=2, ard_num_dims=2),
        "constant": k.ConstantKernel() + k.RBFKernel(lengthscale_prior=p.SmoothedBoxPrior(0.1, 5.0)),
        "composed": k.ScaleKernel(k.RBFKernel(active_dims=(0,)), outputscale_prior=gamma)
        + k.ScaleKernel(k.PeriodicKernel(active_dims=(1,)) * k.LinearKernel(active_dims=(0,))),
    }


NAMES = ["rbf", "matern", "rational quadratic", "periodic", "cosine", "linear", "polynomial", "piecewise", "mixture"]


def data(n=20):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(n, 2))
    return states, np.sin(states[:, 0]) + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize("name", [*NAMES, "constant", "composed"])
def test_kernels_come_back_with_priors_and_constraints(gpytorch, name):
    from policies.gp_torch_storage import describe, rebuild

    kernel = build(gpytorch)[name]
    for parameter in kernel.parameters():
        parameter.data += 0.3
    next(kernel.parameters()).requires_grad_(False)
    facts = describe(kernel)
    plain = json.loads(json.dumps(facts["structure"]))  # numbers and names only
    again = rebuild({**facts, "structure": plain})
    assert repr(again) == repr(kernel)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in kernel.parameters()]
    for (one, a), (other, b) in zip(kernel.named_parameters(), again.named_parameters(), strict=True):
        assert one == other
        assert a.dtype == b.dtype
        assert bool((a == b).all())
    for (one, _, prior, closure, _), (other, module, same, closure_too, _) in zip(
        kernel.named_priors(), again.named_priors(), strict=True
    ):
        assert one == other
        value = closure_too(module).detach()
        assert bool((prior.log_prob(value) == same.log_prob(value)).all())


@pytest.mark.filterwarnings("ignore:.*:UserWarning:linear_operator")
@pytest.mark.parametrize("name", ["rbf", "matern", "composed"])
@pytest.mark.parametrize("method", ["exact", "sparse"])
def test_policies_are_bit_identical_and_can_be_fitted_again(gpytorch, name, method, tmp_path):
    states, actions = data()
    kernel = build(gpytorch)[name]
    policy = GaussianProcessPolicy(kernel, method=method, n_inducing=8, max_iter=5, random_state=0)
    policy.fit(states, actions)
    save(policy, tmp_path / "policy")
    again = load(tmp_path / "policy")
    for one, other in zip(policy.predict(states, return_std=True), again.predict(states, return_std=True), strict=True):
        np.testing.assert_array_equal(one, other)
    rng, same = np.random.default_rng(1), np.random.default_rng(1)
    np.testing.assert_array_equal(policy.sample(states, rng), again.sample(states, same))
    np.testing.assert_array_equal(policy.compile()(states[0], rng), again.compile()(states[0], same))
    np.testing.assert_array_equal(again.fit(states, actions).predict(states), policy.predict(states))


def test_what_would_not_come_back_is_refused(gpytorch, tmp_path):
    import torch

    k, p = gpytorch.kernels, gpytorch.priors

    class Own(k.RBFKernel):
        pass

    curved = k.RBFKernel()
    curved.register_prior("lengthscale_prior", p.NormalPrior(0.0, 1.0), lambda m: m.lengthscale.log())
    softened = k.RBFKernel(lengthscale_constraint=gpytorch.constraints.Positive(torch.exp, torch.log))
    odd = {
        "Own": Own(),
        "whose lengthscale_prior is not on the parameter": curved,
        "Positive constraint with a transform of its own": softened,
        "RFFKernel": k.RFFKernel(num_samples=4),
        "batch shape": k.RBFKernel(batch_shape=torch.Size([2])),
    }
    for message, kernel in odd.items():
        policy = GaussianProcessPolicy(kernel)
        with pytest.raises(TypeError, match=rf"Policy\.kernel is a .*{message}.*cannot be saved"):
            save(policy, tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["class", "prior", "dtype"])
def test_a_file_cannot_choose_what_is_built(gpytorch, part, tmp_path):
    save(GaussianProcessPolicy(build(gpytorch)["rbf"]), tmp_path / "policy")
    with np.load(tmp_path / "policy") as file:
        arrays = dict(file)
    text = arrays[DESCRIPTION].tobytes().decode()
    changed = {
        "class": ("RBFKernel", "IndexKernel"),
        "prior": ("GammaPrior", "LKJPrior"),
        "dtype": ("float32", "qint8"),
    }
    assert changed[part][0] in text
    arrays[DESCRIPTION] = np.frombuffer(text.replace(*changed[part]).encode(), dtype=np.uint8)
    with open(tmp_path / "evil", "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="is not among"):
        load(tmp_path / "evil")
