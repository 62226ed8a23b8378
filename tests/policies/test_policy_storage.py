"""Saved policies come back bit for bit, and files bring no code with them."""

import json
import pickle

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from policies import (
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    RBFFeatures,
    RBFPolicy,
    SoftmaxPolicy,
    TabularPolicy,
    load,
    save,
)
from policies.storage import DESCRIPTION

POLICIES = {
    "tabular": TabularPolicy(),
    "linear": LinearGaussianPolicy(covariance="full"),
    "linear-scaled": LinearGaussianPolicy(features=make_pipeline(StandardScaler(), PCA(2))),
    "rbf": RBFPolicy(n_features=8, random_state=0),
    "fourier": RBFPolicy(n_features=8, placement="random", random_state=0),
    "softmax": SoftmaxPolicy(),
    "softmax-polynomial": SoftmaxPolicy(features="polynomial"),
    "softmax-rbf": SoftmaxPolicy(features=RBFFeatures(5, random_state=0)),
    "gp": GaussianProcessPolicy(),
    "gp-sparse": GaussianProcessPolicy(method="sparse", n_inducing=10, random_state=0),
    "gp-features": GaussianProcessPolicy(method="features", n_inducing=10, random_state=0, periods=(3.0, np.inf)),
    "gp-matern": GaussianProcessPolicy(ConstantKernel() * Matern(), features=PCA(2)),
    "neural": NeuralPolicy(hidden=(5,), max_iter=20, random_state=0),
    "neural-categorical": NeuralCategoricalPolicy(hidden=(5,), max_iter=20, random_state=0),
}


@pytest.fixture(params=POLICIES)
def fitted(request):
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    if is_classifier(POLICIES[request.param]):
        actions = np.array(["left", "right", "stay"], dtype=object)[rng.integers(0, 3, 30)]
    return clone(POLICIES[request.param]).fit(states, actions), states, actions


def test_predictions_samples_and_densities_are_bit_identical(fitted, tmp_path):
    policy, states, actions = fitted
    policy.save(tmp_path / "policy")
    again = load(tmp_path / "policy")
    assert type(again) is type(policy)
    assert repr(again) == repr(policy)
    np.testing.assert_array_equal(again.predict(states), policy.predict(states))
    np.testing.assert_array_equal(again.log_prob(states, actions), policy.log_prob(states, actions))
    seeds = np.random.default_rng(1), np.random.default_rng(1)
    np.testing.assert_array_equal(again.sample(states, seeds[0]), policy.sample(states, seeds[1]))
    np.testing.assert_array_equal(again.compile()(states[0], seeds[0]), policy.compile()(states[0], seeds[1]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    policy = LinearGaussianPolicy().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0])
    save(policy, tmp_path / "policy")
    before = (tmp_path / "policy").read_bytes()

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        save(policy.with_params(policy.params + 1), tmp_path / "policy")
    assert (tmp_path / "policy").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["policy"]


def test_a_file_cannot_choose_what_is_built(tmp_path):
    tree = {"format": 1, "policy": {"class": "Popen", "state": {}}}
    np.savez(tmp_path / "evil.npz", **{DESCRIPTION: np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)})
    with pytest.raises(ValueError, match="class 'Popen' is not among those that can be loaded"):
        load(tmp_path / "evil.npz")
    np.savez(tmp_path / "objects.npz", **{DESCRIPTION: np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load(tmp_path / "objects.npz")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"allow_pickle|pickled"):
        load(tmp_path / "pickle")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="is not a saved policy"):
        load(tmp_path / "other.npz")


def test_what_cannot_be_saved_says_so(tmp_path):
    policy = RBFPolicy(random_state=np.random.RandomState(0)).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0])
    with pytest.raises(
        TypeError, match=r"RBFPolicy\.\S*random_state is a numpy\.random\S*RandomState: it cannot be saved"
    ):
        save(policy, tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []
