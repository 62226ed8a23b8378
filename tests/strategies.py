"""Hypothesis strategies: MDPs, batches, weights, and whole hard problems as recipes."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np

from reps_opt import MDP, Batch
from tests.hard import recipes
from tests.hard.recipes import Recipe

SEEDS = st.integers(0, 2**32 - 1)

RADII = st.one_of(
    st.floats(-3.0, 0.5).map(lambda power: 10**power),
    st.floats(-12.0, 2.0).map(lambda power: 10**power),
    st.sampled_from([0.0, 1e3, math.inf]),
)
"""Radii in nats: mostly where the ball binds, sometimes anywhere."""

COMMON = {"seed": SEEDS, "scale": st.sampled_from(recipes.SCALES), "shift": st.sampled_from(recipes.SHIFTS)}
TABLES = {
    **COMMON,
    "size": st.integers(1, 7),
    "width": st.integers(1, 4),
    "structure": st.sampled_from(recipes.TRANSITIONS),
    "rewards": st.sampled_from(recipes.REWARDS),
    "reference": st.sampled_from(recipes.REFERENCES),
    "gamma": st.sampled_from(recipes.GAMMAS),
    "epsilon": RADII,
}
SAMPLES = {
    **COMMON,
    "size": st.integers(1, 300),
    "width": st.integers(1, 6),
    "structure": st.sampled_from(recipes.FEATURES),
    "rewards": st.sampled_from(recipes.REWARDS),
    "reference": st.sampled_from(recipes.BASES),
    "epsilon": RADII,
}
STEPS = {
    **COMMON,
    "shift": st.just(0.0),
    "size": st.integers(1, 12),
    "width": st.integers(0, 3),
    "structure": st.sampled_from(recipes.METRICS),
    "rewards": st.just("normal"),
    "reference": st.sampled_from(recipes.COST_ROWS),
    "epsilon": st.one_of(st.floats(-8.0, 2.0).map(lambda power: 10**power), st.just(0.0)),
}


def _family(name: str, fields: dict, options: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Recipe]:
    return st.builds(Recipe, family=st.just(name), option=st.just("") if options is None else options, **fields)


PROBLEMS: dict[str, st.SearchStrategy[Recipe]] = {
    "reps": _family("reps", TABLES),
    "temperature": _family("temperature", TABLES),
    "f-divergence": _family("f-divergence", TABLES, st.sampled_from(recipes.DIVERGENCES)),
    "budgets": _family(
        "budgets",
        TABLES,
        st.builds("{} {}".format, st.sampled_from(["ball", "linear"]), st.sampled_from(recipes.BUDGETS)),
    ),
    "conditional": _family("conditional", TABLES),
    "linear": _family("linear", TABLES),
    "horizon": _family(
        "horizon",
        {**TABLES, "size": st.integers(1, 5)},
        st.builds("{} {}".format, st.sampled_from(recipes.BALLS), st.integers(1, 6)),
    ),
    "samples": _family("samples", SAMPLES, st.sampled_from(["", "ridge"])),
    "episodic": _family("episodic", SAMPLES, st.sampled_from(["", "contexts"])),
    "step": _family("step", STEPS, st.sampled_from(["", "damped"])),
}
"""Recipes by family."""


@st.composite
def mdps(draw: st.DrawFn) -> MDP:
    """Small MDPs of every structure, reward, discount, scale and shift."""
    recipe = draw(PROBLEMS["reps"])
    return recipes.mdp_of(recipe, recipe.rng)


@st.composite
def weights(draw: st.DrawFn, n: int) -> np.ndarray:
    """Non-negative weights (n,) with a positive sum: even, graded over thirty decades, or with zeros."""
    recipe = draw(_family("samples", {**SAMPLES, "size": st.just(n)}))
    found = recipes.base_weights(recipe, recipe.rng)
    return np.ones(n) if found is None else found


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Transitions of one to forty rows, with vectors or integers for states, in episodes that end or are cut."""
    rng = recipes.Uniform(draw(SEEDS))
    n, k = draw(st.integers(1, 40)), draw(st.integers(0, 3))
    shape = (n, k) if k else (n,)
    states, following = (rng.normal(*shape) if k else rng.index(5, n) for _ in range(2))
    ends = rng.uniform(n) < draw(st.sampled_from([0.0, 0.2, 1.0]))
    cut = (rng.uniform(n) < 0.1) & ~ends
    return Batch(states, rng.index(3, n), rng.normal(n), following, terminated=ends, truncated=cut)
