"""The public entries of the core, one line each, with good arguments and the kind of each."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from policies import LinearGaussianPolicy
from reps_opt import (
    CPO,
    ENAC,
    MDP,
    REPS,
    TRPO,
    Batch,
    ConditionalREPS,
    EpisodicREPS,
    EpisodicREPSUpdate,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    Factor,
    FiniteHorizonREPS,
    LinearProgram,
    NaturalGradient,
    NoImprovement,
    ORePS,
    ParameterSearch,
    Product,
    REPSUpdate,
    RewardWeightedRegression,
    SampleREPS,
    TrustRegionStep,
    VanillaGradient,
    compare_policies,
    gpomdp,
    improve,
    iterate,
    natural_actor_critic,
    reinforce,
    rollout,
    solve,
    solve_path,
    surrogate_step,
    top_half,
)
from tests.arguments import (
    choice,
    count,
    distributions,
    entry,
    finite_radius,
    fraction,
    non_negative,
    number,
    numbers,
    positive,
    radius,
    rows,
    share,
    transitions,
    weights,
)
from tests.reps_opt.step_fakes import SoftmaxTable

P = np.array([[[0.25, 0.75], [1.0, 0.0]], [[0.5, 0.5], [0.125, 0.875]]])
R = np.array([[1.0, 0.0], [0.5, 2.0]])
MU = np.array([0.25, 0.75])
TABLE = np.array([[0.5, 0.5], [0.25, 0.75]])
TWO = MDP(P, R, 0.9, MU)
OCCUPANCY = np.array([[0.25, 0.125], [0.125, 0.5]])
RETURNS = np.array([0.5, 1.0, -1.0, 2.0, 0.0, 0.25, -0.5, 1.5])
PSI = np.stack([RETURNS[::-1] - RETURNS, np.array([1.0, -1.0, 1.0, -1.0, 0.5, -0.5, 0.25, -0.25])], axis=1)
BASE = np.array([1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 0.25, 1.0])
F = np.array([[2.0, 0.5], [0.5, 1.0]])
J = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, -1.0]])
BATCH = {"states": PSI, "actions": RETURNS, "rewards": RETURNS, "next_states": PSI[::-1].copy(), "start_states": PSI}
STATES, ACTIONS = np.array([0, 1, 0, 1, 1, 0, 0, 1]), np.array([0, 1, 1, 0, 1, 0, 1, 1])
ENDS = np.array([False, False, False, True] * 2)


def _updated(update: Any, rewards: Any, costs: Any = RETURNS) -> Any:
    """The parameters that an update leads to on eight transitions."""
    batch = SimpleNamespace(
        states=STATES,
        actions=ACTIONS,
        rewards=rewards,
        next_states=STATES[::-1],
        terminated=ENDS,
        truncated=~ENDS & ENDS,
    )
    batch.costs = costs
    return update(SoftmaxTable(np.zeros((2, 2))), batch).policy.params


def _update(cls: type, **fixed: Any) -> Any:
    def run(rewards: Any = RETURNS, costs: Any = RETURNS, **settings: Any) -> Any:
        return _updated(cls(**{**fixed, **settings}), rewards, costs)

    return run


def _surrogate(policy: Any, epsilon: Any) -> Any:
    return surrogate_step(FiniteHorizonREPS(TWO, policy, 3, epsilon))


def _iterate(policy: Any, n_iterations: Any) -> Any:
    return list(iterate(TWO, policy, lambda pi: ExactTRPO(TWO, pi, epsilon=0.1), n_iterations))


def _improve(**options: Any) -> Any:
    update = EpisodicREPSUpdate(fit=FITTED)
    return next(improve(ParameterSearch(lambda x, contexts, rng: x[:, 0], 2), None, update, seed=0, **options))


def _play(losses: Any, **settings: Any) -> Any:
    return ORePS(TWO, 2, 2, **settings).run(losses)


def _by_product(moved: Any) -> Any:
    return solve(TrustRegionStep(MU, Product(lambda v: moved), 0.1))


def _occupancy(problem: Any) -> Any:
    return solve(problem).occupancy


def _policy(problem: Any) -> Any:
    return solve(problem).policy


def _weights(problem: Any) -> Any:
    return solve(problem).weights("sum")


def _taken(problem: Any) -> Any:
    return solve(problem).step


class _Columns:
    """A feature map that changes nothing."""

    def fit(self, states: Any) -> _Columns:
        return self

    def transform(self, states: Any) -> Any:
        return states


MORE = np.array([1.0, 0.5, 0.25])
ROUND = ([0, 1, 2], [0, 0, 0], [1, 2, 0])
SCORES = {"scores": rows(PSI), "rewards": rows(RETURNS)}


def _of_scores(estimate: Any) -> Any:
    return lambda scores, rewards: estimate(scores, rewards, ENDS, ENDS & False)


def _actor_critic(**arguments: Any) -> Any:
    ones, over = np.ones((len(PSI), 1)), {"terminated": ENDS, "truncated": ENDS & False}
    return natural_actor_critic(features=ones, next_features=ones, **over, **arguments)[0]


CHOSEN = {"gamma": fraction(0.9), "gae_lambda": fraction(0.9), "rewards": rows(RETURNS)}
FISHER = {**CHOSEN, "damping": finite_radius(0.1)}
SEARCH = {**FISHER, "epsilon": positive(0.1), "shrink": share(0.5), "trials": count(4)}
LOGGED = {name: numbers(v) if name == "start_states" else rows(v) for name, v in BATCH.items()}
BUDGETS = {"costs": numbers([R]), "budgets": numbers([1.5])}
OLD, NEW = distributions(TABLE).called("policy"), distributions(TABLE[::-1].copy()).called("policy")
OF_TABLE = {"policy": distributions(TABLE)}
SIZE = {"step_size": positive(0.1), "features": numbers(P)}
SAMPLES = {"rewards": rows(RETURNS), "feature_differences": rows(PSI), "base_weights": weights(BASE)}
EPISODES = {"returns": rows(RETURNS), "contexts": rows(PSI), "base_weights": weights(BASE)}
STEP = {"gradient": rows(MU), "metric": rows(F), "epsilon": finite_radius(0.1), "damping": finite_radius(0.1)}
ROW = {"b": rows(MU).called("costs[0][0]"), "c": number(0.01).called("costs[0][1]")}
TRANSITION = {"P": transitions(P), "r": numbers(R), "gamma": share(0.9), "mu0": distributions(MU)}

FITTED = LinearGaussianPolicy()
UPDATE = {"epsilon": radius(0.5), "scale": choice("ess"), "ridge": finite_radius(0.1)}
WEIGHED = {"epsilon": radius(0.5), "scale": choice("ess"), "gamma": fraction(0.9), "gae_lambda": fraction(0.9)}

ENTRIES = [
    entry("MDP", MDP, lambda mdp: mdp.value(TABLE), **TRANSITION),
    entry("MDP", partial(MDP, P, R), lambda mdp: mdp.counts, counts=non_negative(R)),
    entry("MDP", partial(MDP.from_transitions, *ROUND), lambda mdp: mdp.rewards, rewards=rows(MORE).called("reward")),
    entry("MDP", TWO.value, np.asarray, policy=distributions(TABLE)),
    entry("MDP", TWO.occupancy, np.asarray, policy=distributions(TABLE)),
    entry("MDP", TWO.bellman_error, np.asarray, value=numbers(MU)),
    entry("Batch", Batch, lambda batch: batch.returns, **LOGGED),
    entry("compare_policies", lambda **k: compare_policies(TWO, **k), lambda c: c.gain, old=OLD, new=NEW),
    entry("REPS", partial(REPS, TWO), _occupancy, reference=weights(OCCUPANCY), epsilon=radius(0.5)),
    entry("REPS", partial(REPS, TWO, OCCUPANCY), temperature=positive(0.1)),
    entry("REPS", partial(REPS, TWO, OCCUPANCY, 0.1), _occupancy, **BUDGETS),
    entry("REPS", partial(REPS, TWO, OCCUPANCY, 0.5), entropy=number(0.1)),
    entry("REPS", partial(REPS, TWO, OCCUPANCY, 0.5), divergence=choice("chi2")),
    entry("LinearProgram", partial(LinearProgram, TWO), _occupancy, **BUDGETS),
    entry("ConditionalREPS", partial(ConditionalREPS, TWO), _occupancy, policy=weights(TABLE), epsilon=radius(0.1)),
    entry("ConditionalREPS", partial(ConditionalREPS, TWO, TABLE), temperature=positive(0.1)),
    entry("FiniteHorizonREPS", partial(FiniteHorizonREPS, TWO, horizon=3), _policy, policy=distributions(TABLE)),
    entry("FiniteHorizonREPS", partial(FiniteHorizonREPS, TWO, TABLE, 3), epsilon=radius(0.1), ball=choice("shared")),
    entry("FiniteHorizonREPS", partial(FiniteHorizonREPS, TWO, TABLE), horizon=count(3)),
    entry("surrogate_step", _surrogate, lambda s: s.policy, policy=distributions(TABLE), epsilon=radius(0.1)),
    entry("ExactTRPO", partial(ExactTRPO, TWO, epsilon=0.1), _policy, direction=choice("new||old"), **OF_TABLE),
    entry("ExactTRPO", partial(ExactTRPO, TWO, TABLE), epsilon=radius(0.1)),
    entry("ExactTRPO", partial(ExactTRPO, TWO, TABLE), temperature=positive(0.1)),
    entry("ExactNaturalGradient", partial(ExactNaturalGradient, TWO, epsilon=0.1), _policy, **OF_TABLE),
    entry("ExactNaturalGradient", partial(ExactNaturalGradient, TWO, TABLE), epsilon=finite_radius(0.1)),
    entry("ExactNaturalGradient", partial(ExactNaturalGradient, TWO, TABLE), _policy, **SIZE),
    entry("ExactPolicyGradient", partial(ExactPolicyGradient, TWO, epsilon=0.1), _policy, **OF_TABLE),
    entry("ExactPolicyGradient", partial(ExactPolicyGradient, TWO, TABLE), epsilon=finite_radius(0.1)),
    entry("ExactPolicyGradient", partial(ExactPolicyGradient, TWO, TABLE), _policy, **SIZE),
    entry("rollout", partial(rollout, "CartPole-v1", seed=0), n_episodes=count(1), max_steps=count(3)),
    entry("rollout", partial(rollout, "CartPole-v1", seed=0), n_steps=count(3)),
    entry("improve", _improve, n_iterations=count(1), n_episodes=count(1), keep=count(2), reuse=choice("pool")),
    entry("NoImprovement", NoImprovement, patience=count(2), tolerance=finite_radius(0.1)),
    entry("ParameterSearch", partial(ParameterSearch, lambda x, contexts, rng: x[:, 0]), n_params=count(2)),
    entry("REPSUpdate", partial(REPSUpdate, fit=FITTED, features=_Columns()), **UPDATE, gamma=share(0.9)),
    entry("REPSUpdate", partial(REPSUpdate, fit=FITTED, features=_Columns(), gamma=1), temperature=positive(0.1)),
    entry("EpisodicREPSUpdate", partial(EpisodicREPSUpdate, fit=FITTED), **UPDATE),
    entry("RewardWeightedRegression", partial(RewardWeightedRegression, fit=FITTED), **WEIGHED),
    entry("ENAC", ENAC, gamma=fraction(0.9), epsilon=positive(0.1), ridge=finite_radius(0.1)),
    entry("iterate", _iterate, lambda history: history[-1].policy, n_iterations=count(2), **OF_TABLE),
    entry("ORePS", partial(ORePS, TWO), horizon=count(2), n_episodes=count(3), feedback=choice("full")),
    entry("ORePS", partial(ORePS, TWO, 2), learning_rate=positive(0.1)),
    entry("ORePS", _play, lambda run: run.pair_occupancies, losses=non_negative(P / 2)),
    entry("SampleREPS", SampleREPS, _weights, epsilon=radius(1.0), ridge=finite_radius(0.1), **SAMPLES),
    entry("SampleREPS", partial(SampleREPS, RETURNS, PSI), temperature=positive(0.1)),
    entry("SampleREPS", partial(SampleREPS.from_batch, Batch(**BATCH), _Columns()), gamma=share(0.9)),
    entry("EpisodicREPS", EpisodicREPS, _weights, epsilon=radius(1.0), **EPISODES),
    entry("EpisodicREPS", partial(EpisodicREPS, RETURNS), temperature=positive(0.1)),
    entry(
        "solve_path",
        partial(solve_path, REPS(TWO, OCCUPANCY, 0.1)),
        lambda path: np.array([solution.objective for solution in path]),
        epsilons=numbers(np.array([0.5, 0.125])),
    ),
    entry("top_half", top_half, np.asarray, values=numbers(RETURNS), fraction=share(0.5)),
    entry("TrustRegionStep", TrustRegionStep, _taken, **STEP),
    entry("TrustRegionStep", lambda b, c: TrustRegionStep(MU, F, 0.1, [(b, c)]), _taken, **ROW),
    entry("Factor", Factor, lambda metric: metric.matrix, J=rows(J), weights=non_negative(MORE)),
    entry("Product", lambda smallest: Product(lambda v: F @ v, smallest), smallest=finite_radius(0.1)),
    entry("Product", _by_product, moved=rows(MU).called("fn(v)")),
    entry("VanillaGradient", _update(VanillaGradient), np.asarray, length=positive(0.1), **CHOSEN),
    entry("VanillaGradient", _update(VanillaGradient), np.asarray, step_size=positive(0.1)),
    entry("NaturalGradient", _update(NaturalGradient), np.asarray, step_size=positive(0.1), **FISHER),
    entry("NaturalGradient", _update(NaturalGradient), np.asarray, epsilon=positive(0.1)),
    entry("reinforce", _of_scores(reinforce), np.asarray, **SCORES),
    entry("gpomdp", _of_scores(gpomdp), np.asarray, **SCORES),
    entry("natural_actor_critic", _actor_critic, np.asarray, **SCORES, gamma=fraction(0.9), lstd_lambda=fraction(0.5)),
    entry("TRPO", _update(TRPO), np.asarray, **SEARCH),
    entry("CPO", _update(CPO), np.asarray, budget=numbers(np.array([0.5])), costs=rows(RETURNS), **SEARCH),
]

NO_INPUT = {
    "AtMost": "is checked with its program: test_what_is_wrong_with_a_program_is_said",
    "Ball": "is held to its arguments by test_balls_that_do_not_fit_are_refused",
    "Certificate": "is made by solve",
    "Equal": "is checked with its program: test_what_is_wrong_with_a_program_is_said",
    "Problem": "is a base class",
    "Program": "is checked when solved: test_what_is_wrong_with_a_program_is_said",
    "RolloutError": "is raised by rollout",
    "importance_weights": "takes policies and batches, checked where they are made",
    "Record": "is made by improve",
    "History": "holds iterations, which iterate makes",
    "Identity": "takes no argument",
    "Solution": "is made by solve",
    "Status": "is an enumeration",
    "text_map": "takes a solution, and digits to print",
    "explore": "takes an MDP, and a question that its own tests spoil: test_asking",
    "solve": "takes a problem and a route: test_what_is_not_a_problem_or_a_solver_is_named",
}
"""Public names without arguments to spoil, and why."""
