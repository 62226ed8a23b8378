"""Every argument of every policy and feature map, spoiled: the error names it; any layout gives one answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import policies
from policies import (
    FourierFeatures,
    GaussianProcessPolicy,
    LinearGaussianPolicy,
    NeuralCategoricalPolicy,
    NeuralPolicy,
    PolynomialStates,
    RBFFeatures,
    RBFPolicy,
    SoftmaxPolicy,
    SquaredExponential,
    TabularPolicy,
)
from tests.arguments import (
    LAYOUTS,
    Argument,
    Entry,
    Spoiled,
    bad_arguments,
    choice,
    count,
    distributions,
    entry,
    finite_radius,
    frozen,
    kind,
    numbers,
    positive,
    rows,
    weights,
)

pytest.importorskip("torch")  # the neural policies are in the table

ANY_WORDS = ""


@kind
def states(good: Any) -> Iterator[Spoiled]:
    """States as scikit-learn takes them: its own words for shapes and dtypes, numbers in objects and text allowed."""
    for label, value, errors, message in numbers(good).spoiled:
        if label not in ("objects", "text"):
            yield label, value, errors, message if label in ("nan", "infinite") else ANY_WORDS


@kind
def samples(good: Any) -> Iterator[Spoiled]:
    """The same for states or actions that come beside others."""
    yield from states(good).spoiled
    yield "too short", good[:-1], (ValueError,), ANY_WORDS


@kind
def bound(good: Any) -> Iterator[Spoiled]:
    """A bound of actions: infinite is legal."""
    for each in numbers(good).spoiled:
        if each[0] != "infinite":
            yield each


RNG = np.random.default_rng(0)
STATES = np.round(RNG.normal(size=(12, 2)), 3).astype(np.float32).astype(float)
ACTIONS = (STATES @ [1.0, -0.5] + 0.125 * np.arange(12)).astype(np.float32).astype(float)
LABELS = np.arange(12) % 3
WEIGHT = np.arange(1.0, 13.0)
NET = {"hidden": (3,), "max_iter": 3, "random_state": 0}

GAUSSIAN = {
    "LinearGaussianPolicy": LinearGaussianPolicy,
    "RBFPolicy": partial(RBFPolicy, n_features=4, random_state=0),
    "GaussianProcessPolicy": partial(GaussianProcessPolicy, max_iter=3, random_state=0),
    "NeuralPolicy": partial(NeuralPolicy, **NET),
}
CATEGORICAL = {
    "TabularPolicy": TabularPolicy,
    "SoftmaxPolicy": SoftmaxPolicy,
    "NeuralCategoricalPolicy": partial(NeuralCategoricalPolicy, **NET),
}
MAPS = {
    "RBFFeatures": partial(RBFFeatures, 4, random_state=0),
    "FourierFeatures": partial(FourierFeatures, 4, random_state=0),
    "PolynomialStates": PolynomialStates,
}
SAMPLE = {"X": samples(STATES), "sample_weight": weights(WEIGHT)}


def fit(make: Any, y: Any = ACTIONS) -> Any:
    """Fit a policy; settings go to its constructor."""

    def run(X: Any = STATES, sample_weight: Any = WEIGHT, y: Any = y, **settings: Any) -> Any:
        return make(**settings).fit(X, y, sample_weight=sample_weight)

    return run


def _mean(policy: Any) -> Any:
    return policy.predict(STATES)


def _density(policy: Any) -> Any:
    return policy.log_prob(STATES, LABELS)


def _used(make: Any, y: Any, name: str) -> list[Entry]:
    """The methods of a fitted policy that take arrays."""
    policy = make().fit(STATES, y)
    found = [entry(name, lambda X: policy.predict(X), np.asarray, X=states(STATES))]
    if y is ACTIONS:
        found.append(entry(name, policy.log_prob, np.asarray, states=states(STATES), actions=rows(ACTIONS)))
        found.append(entry(name, policy.compile, low=bound(np.array(-1.0)), high=bound(np.array(1.0))))
    return found


def setting(name: str, **kinds: Argument) -> Entry:
    """A policy's settings, checked when it is fitted."""
    make = (GAUSSIAN | CATEGORICAL | MAPS)[name]
    return entry(name, fit(make, ACTIONS if name in GAUSSIAN else LABELS), **kinds)


ENTRIES = [
    *(entry(name, fit(make), _mean, y=samples(ACTIONS), **SAMPLE) for name, make in GAUSSIAN.items()),
    *(entry(name, fit(make, LABELS), _density, **SAMPLE) for name, make in CATEGORICAL.items()),
    *(each for name, make in GAUSSIAN.items() for each in _used(make, ACTIONS, name)),
    *(each for name, make in CATEGORICAL.items() for each in _used(make, LABELS, name)),
    *(entry(name, fit(make), lambda f: f.transform(STATES), **SAMPLE) for name, make in MAPS.items()),
    setting("TabularPolicy", smoothing=finite_radius(0.1)),
    entry("TabularPolicy", TabularPolicy.from_probabilities, probabilities=distributions(np.full((2, 2), 0.5))),
    setting("SoftmaxPolicy", features=choice("rbf"), n_features=count(3), ridge=positive(0.1)),
    entry("PolynomialStates", fit(PolynomialStates), degree=count(2)),
    setting("LinearGaussianPolicy", ridge=finite_radius(0.1), covariance=choice("full"), min_std=positive(1e-3)),
    setting("RBFPolicy", ridge=finite_radius(0.1), covariance=choice("full"), min_std=positive(1e-3)),
    setting("RBFPolicy", placement=choice("kmeans"), bandwidth=numbers(np.ones(2))),
    entry("RBFPolicy", fit(RBFPolicy), n_features=count(3)),
    setting("GaussianProcessPolicy", method=choice("exact"), criterion=choice("evidence"), noise=positive(0.1)),
    setting("GaussianProcessPolicy", n_inducing=count(3), min_std=positive(1e-3)),
    entry("GaussianProcessPolicy", fit(GaussianProcessPolicy), max_iter=count(3)),
    setting("NeuralPolicy", alpha=finite_radius(0.1)),
    entry("NeuralPolicy", fit(NeuralPolicy), max_iter=count(3)),
    setting("NeuralCategoricalPolicy", alpha=finite_radius(0.1)),
    entry("RBFFeatures", fit(RBFFeatures), n_centres=count(3), bandwidth=numbers(np.ones(2))),
    entry("FourierFeatures", fit(FourierFeatures), n_components=count(3), bandwidth=numbers(np.ones(2))),
    entry("SquaredExponential", lambda **k: SquaredExponential(**k)(STATES), length_scale=numbers(np.ones(2))),
]
NO_INPUT = {"load": "test_policy_storage", "save": "test_policy_storage"}


@pytest.mark.parametrize("case", bad_arguments(ENTRIES), ids=str)
def test_bad_input_is_named(case):
    with pytest.raises(case.errors) as caught:
        case.entry.call(**{**case.entry.good, case.argument: case.value})
    assert re.search(case.message, str(caught.value), flags=re.S), str(caught.value)


LAID_OUT = [(each, argument) for each in ENTRIES if each.outcome for argument in each.arrays]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("each", "argument"), LAID_OUT, ids=lambda x: getattr(x, "name", x))
def test_any_layout_gives_one_answer_and_is_left_alone(each, argument, layout):
    other = LAYOUTS[layout](frozen(each.good[argument]))
    if isinstance(other, np.ndarray):
        other.flags.writeable = False
    expected = each.outcome(each.call(**each.good))
    np.testing.assert_allclose(each.outcome(each.call(**{**each.good, argument: other})), expected, rtol=1e-7)


@pytest.mark.parametrize("name", sorted(policies.__all__))
def test_every_public_entry_is_in_the_table(name):
    assert (name in {each.name for each in ENTRIES}) != (name in NO_INPUT)
