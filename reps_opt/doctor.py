"""A look at the installation: versions, solvers, threads; every route, every policy and a roll-out on small tasks."""

from __future__ import annotations

import math
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import threadpoolctl

from reps_opt.problem import Problem
from reps_opt.problems.horizon import FiniteHorizonREPS
from reps_opt.problems.policy_steps import ExactTRPO
from reps_opt.problems.reps import REPS, ConditionalREPS
from reps_opt.problems.samples import EpisodicREPS, SampleREPS
from reps_opt.problems.steps import TrustRegionStep
from reps_opt.processes.mdp import MDP
from reps_opt.result import Result
from reps_opt.solution import Solution
from reps_opt.solvers.answer import Solver
from reps_opt.solvers.newton import Newton
from reps_opt.solvers.scipy_dual import ScipyDual
from reps_opt.solving import solve
from reps_opt.tolerances import SELF_TEST_ERROR, VISIBLE

NEEDED = ("numpy", "scipy", "cvxpy", "scikit-learn", "gymnasium", "matplotlib", "pandas", "xarray", "tqdm", "typer")
OPTIONAL = ("torch", "gpytorch", "dask", "distributed", "bokeh")
CONIC_SOLVERS = ("CLARABEL", "SCS")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

GAUSSIAN_POLICIES = ("LinearGaussianPolicy", "RBFPolicy", "GaussianProcessPolicy", "NeuralPolicy")
DISCRETE_POLICIES = ("SoftmaxPolicy", "NeuralCategoricalPolicy")
NETWORKS = ("NeuralPolicy", "NeuralCategoricalPolicy")


@dataclass(frozen=True)
class Check:
    """One thing tried: whether it works, None where it is not installed and was not tried, and what was found."""

    name: str
    ok: bool | None
    found: str


@dataclass(frozen=True, repr=False)
class Examination(Result):
    """What :func:`examine` found: versions by package, threads, and every check of the self-test."""

    versions: Mapping[str, str]
    threads: Mapping[str, str]
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether every needed package is there, and nothing that was tried fails."""
        return all(self.versions[name] for name in NEEDED) and all(check.ok is not False for check in self.checks)

    @property
    def absent(self) -> tuple[str, ...]:
        """Packages that are not installed, and things that were not tried for want of them."""
        untried = tuple(check.name for check in self.checks if check.ok is None)
        return (*(name for name, found in self.versions.items() if not found), *untried)

    @property
    def title(self) -> str:
        if not self.healthy:
            state = "NOT well"
        elif self.absent:
            state = f"well as far as it is installed, which leaves out {', '.join(self.absent)}"
        else:
            state = "well"
        return f"reps_opt {self.versions['reps_opt']} is {state}"

    def rows(self) -> list[tuple[str, str]]:
        versions = [
            (name, found or ("MISSING" if name in NEEDED else "not installed (optional)"))
            for name, found in self.versions.items()
        ]
        verdict = {True: "ok", False: "FAILED", None: "not tried"}
        checks = [(check.name, f"{verdict[check.ok]}: {check.found}") for check in self.checks]
        return [*versions, *self.threads.items(), *checks]

    def numbers(self) -> dict[str, Any]:
        """Versions, threads and findings by name."""
        return {"healthy": self.healthy, **dict(self.rows())}


def examine() -> Examination:
    """Look at the installation; solve small problems through every route, fit every policy, and roll one out.

    Examples
    --------
    >>> from reps_opt.doctor import examine
    >>> examine().healthy
    True
    """
    solved = [_attempt(name, partial(_solved, *case)) for name, case in _cases()]
    lacking = [name for name, routes in _conic_routes().items() if not routes]
    missing = [Check(f"routes by {name}", None, "no such solver is installed") for name in lacking]
    learned = [_attempt(*lesson) for lesson in _learning()]
    return Examination(_versions(), _threads(), (*solved, *missing, *learned))


def _versions() -> dict[str, str]:
    import reps_opt

    found = {"reps_opt": reps_opt.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in (*NEEDED, *OPTIONAL):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _threads() -> dict[str, str]:
    """Processors, and the threads of every numerical library that is loaded."""
    pools = {f"{pool['internal_api']} ({pool['num_threads']})" for pool in threadpoolctl.threadpool_info()}
    variables = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    text = ", ".join(f"{name}={value}" for name, value in variables.items())
    return {
        "processors": str(os.cpu_count()),
        "threads": ", ".join(sorted(pools)) + (f"   ({text})" if text else "   (set OMP_NUM_THREADS to change them)"),
    }


def _small_mdp() -> MDP:
    """Six states on a ring: two actions step either way and slip, and one end pays."""
    ahead, back = np.roll(np.eye(6), 1, axis=1), np.roll(np.eye(6), -1, axis=1)
    P = np.stack([0.8 * ahead + 0.2 * back, 0.2 * ahead + 0.8 * back], axis=1)
    rewards = np.zeros((6, 2))
    rewards[3] = 1.0, 2.0
    return MDP(P, rewards, gamma=0.9, mu0=np.eye(6)[0])


def _cases() -> Iterator[tuple[str, tuple[Problem, Solver | None, float]]]:
    """Name, problem and route (None: its own) of each check; and the objective to agree with, NaN for the first."""
    mdp = _small_mdp()
    uniform = mdp.uniform_policy()
    rng = np.random.default_rng(0)
    returns, features = rng.normal(size=200), rng.normal(size=(200, 3))
    exact, sampled = REPS(mdp, mdp.occupancy(uniform), 0.1), SampleREPS(returns, features, 0.5)
    for problem in (exact, sampled):
        kind = type(problem).__name__
        objective = solve(problem).objective
        yield f"{kind} by Newton", (problem, Newton(), math.nan)
        yield f"{kind} by ScipyDual", (problem, ScipyDual(), objective)
        for name, routes in _conic_routes().items():
            for route in routes:
                yield f"{kind} by {type(route).__name__}, {name}", (problem, route, objective)
    others: tuple[Problem, ...] = (
        EpisodicREPS(returns, epsilon=0.5),
        ConditionalREPS(mdp, uniform, 0.1),
        ExactTRPO(mdp, uniform, 0.1),
        FiniteHorizonREPS(mdp, uniform, horizon=5),
        TrustRegionStep(features.mean(axis=0), features.T @ features / 200, 0.01),
    )
    for other in others:
        yield type(other).__name__, (other, None, math.nan)


def _conic_routes() -> dict[str, tuple[Solver, ...]]:
    """Primal and dual through every conic solver of the self-test; nothing for one that is not installed."""
    routes: dict[str, tuple[Solver, ...]] = dict.fromkeys(CONIC_SOLVERS, ())
    with suppress(ImportError):
        from reps_opt.solvers.cvxpy_conic import CvxpyDual, CvxpyPrimal, installed_solvers

        routes |= {name: (CvxpyPrimal(name), CvxpyDual(name)) for name in CONIC_SOLVERS if name in installed_solvers()}
    return routes


def _learning() -> Iterator[tuple[str, Callable[[], str], tuple[str, ...]]]:
    """Name of each attempt at learning, what does it and says what was found, and the packages it needs."""
    for name in (*GAUSSIAN_POLICIES, *DISCRETE_POLICIES):
        yield name, partial(_fit, name), ("policies",)
    yield "a kernel of gpytorch", _fit_torch, ("policies", "torch", "gpytorch")
    yield "TabularPolicy and a roll-out", _roll_out, ("policies",)


def _attempt(name: str, make: Callable[[], str], needs: tuple[str, ...] = ()) -> Check:
    absent = [package for package in needs if find_spec(package) is None]
    if absent:
        return Check(name, None, f"{', '.join(absent)} not installed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a library by another: it works all the same
            return Check(name, True, make())
    except Exception as error:  # an installation can be broken in any way: each is a finding
        return Check(name, False, f"{type(error).__name__}: {error}")


def _fit_torch() -> str:
    kernels = import_module("gpytorch.kernels")
    return _fit("GaussianProcessPolicy", kernel=kernels.ScaleKernel(kernels.RBFKernel()))


def _fit(name: str, **arguments: Any) -> str:
    """Fit a policy to weighted samples of a line, or of its sign, and hold it to what it was fitted to."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (200, 1))
    line = 2 * states + 0.1 * rng.normal(size=states.shape)
    discrete = name in DISCRETE_POLICIES
    actions = (states[:, 0] > 0).astype(int) if discrete else line
    small = {"hidden": (8,)} if name in NETWORKS else {}
    policy: Any = getattr(import_module("policies"), name)(**small, **arguments)
    with threadpoolctl.threadpool_limits(1):  # tiny matrices on many threads take minutes on a busy machine
        policy.fit(states, actions, rng.uniform(0.5, 1.5, 200))
    predicted = np.reshape(policy.predict(states), actions.shape)
    error = float(np.mean(predicted != actions) if discrete else np.mean(np.abs(predicted - 2 * states)))
    if not error <= SELF_TEST_ERROR:
        raise ValueError(f"the fit is off by {error:.3g} in the mean, more than {SELF_TEST_ERROR}")
    drawn = policy.sample(states, np.random.default_rng(1))
    if not np.isfinite(policy.log_prob(states, drawn)).all():
        raise ValueError("the log-density of a sample is not finite")
    return f"fitted to {error:.2g}"


def _roll_out() -> str:
    """Walk on FrozenLake by a policy in a table, and compare what is seen with the table of transitions."""
    from reps_opt.learning.rollouts import rollout

    mdp = MDP.from_gymnasium("FrozenLake-v1")
    policy = import_module("policies").TabularPolicy.from_probabilities(mdp.uniform_policy())
    batch = rollout("FrozenLake-v1", policy, n_steps=100, seed=0)
    pair = batch.states.ravel() * mdp.n_actions + batch.actions.ravel()
    chances = mdp.transitions[pair].toarray()[np.arange(pair.size), batch.next_states.ravel()]
    if len(batch) != 100 or chances.min() <= 0:
        raise ValueError(f"{len(batch)} transitions, one of probability {chances.min():g}")
    return f"{len(batch)} transitions in {batch.n_episodes} episodes"


def _solved(problem: Problem, route: Solver | None, objective: float) -> str:
    """Solve a problem by a route, and hold it to its certificate and to the objective."""
    solution: Solution = solve(problem, route)
    found = f"{solution.status}, gap {solution.certificate.gap:.0e}, {solution.stats['seconds']:.2g} s"
    if not solution.certificate.ok():
        raise ValueError(f"{found}; {solution.message}")
    if abs(solution.objective - objective) > VISIBLE:
        raise ValueError(f"{found}; objective {solution.objective:.9g}, by Newton {objective:.9g}")
    return found
