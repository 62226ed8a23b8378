"""Every kind of result prints, renders, becomes a table, is saved and is drawn; one line a kind."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

import envs
from policies import LinearGaussianPolicy
from reps_opt import (
    CPO,
    MDP,
    REPS,
    TRPO,
    ConditionalREPS,
    EpisodicREPS,
    ExactNaturalGradient,
    ExactPolicyGradient,
    ExactTRPO,
    FiniteHorizonREPS,
    History,
    LinearProgram,
    ORePS,
    SampleREPS,
    Solution,
    TrustRegionStep,
    compare_policies,
    iterate,
    solve,
    solve_path,
)
from reps_opt.learning.updates import PolicyUpdate
from reps_opt.result import Result

RNG = np.random.default_rng(0)
CHAIN = envs.single_chain()
GRID = envs.gridworld(["SFF", "FHG"], slip=0.1, gamma=0.9)
UNIFORM = CHAIN.uniform_policy()
Q = CHAIN.occupancy(UNIFORM)
TRAP = np.eye(5, 2)
LAYERED = envs.layered((1, 2, 2), n_actions=2, seed=0)


def history(count: int) -> History:
    return History(iterate(CHAIN, UNIFORM, lambda p: REPS(CHAIN, CHAIN.occupancy(p), 0.1), count))


def update(kind: type[TRPO], spread: float = 1.0) -> PolicyUpdate:
    """One update from fifty transitions of a linear-Gaussian policy, with rewards of the spread given."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(50, 2))
    policy = LinearGaussianPolicy().fit(states, rng.normal(size=(50, 1)))
    ended = np.arange(50) % 10 == 9
    batch = SimpleNamespace(
        states=states,
        actions=policy.sample(states, rng),
        rewards=spread * rng.normal(size=50),
        next_states=rng.normal(size=(50, 2)),
        terminated=ended,
        truncated=np.zeros(50, dtype=bool),
        episode=np.arange(50) // 10,
        info={"costs": rng.normal(size=50)},
    )
    if kind is CPO:
        return CPO(costs=lambda b: b.info["costs"], budget=0.5)(policy, batch)
    return kind()(policy, batch)


RESULTS: dict[str, Callable[[], Result]] = {
    "REPS": lambda: solve(REPS(CHAIN, Q, 0.5)),
    "REPS on a map": lambda: solve(REPS(GRID, GRID.occupancy(GRID.uniform_policy()), 0.5)),
    "REPS with a budget": lambda: solve(REPS(CHAIN, Q, 0.5, costs=[TRAP], budgets=[0.3])),
    "REPS infeasible": lambda: solve(REPS(CHAIN, Q, 0.5, costs=[TRAP], budgets=[-1.0])),
    "LinearProgram": lambda: solve(LinearProgram(CHAIN)),
    "ConditionalREPS": lambda: solve(ConditionalREPS(CHAIN, UNIFORM, 0.1)),
    "ExactTRPO": lambda: solve(ExactTRPO(CHAIN, UNIFORM, 0.1)),
    "ExactNaturalGradient": lambda: solve(ExactNaturalGradient(CHAIN, UNIFORM, step_size=0.1)),
    "ExactPolicyGradient on features": lambda: solve(
        ExactPolicyGradient(GRID, GRID.uniform_policy(), epsilon=0.1, features=RNG.normal(size=(6, 4, 3)))
    ),
    "FiniteHorizonREPS": lambda: solve(FiniteHorizonREPS(CHAIN, UNIFORM, horizon=4)),
    "FiniteHorizonREPS a step": lambda: solve(FiniteHorizonREPS(CHAIN, UNIFORM, horizon=4, ball="per_step")),
    "SampleREPS": lambda: solve(SampleREPS(RNG.normal(size=50), RNG.normal(size=(50, 2)))),
    "SampleREPS infeasible": lambda: solve(SampleREPS(RNG.normal(size=50), 1 + RNG.uniform(size=(50, 1)))),
    "EpisodicREPS": lambda: solve(EpisodicREPS(RNG.normal(size=50))),
    "TrustRegionStep": lambda: solve(TrustRegionStep([1.0, 2.0], np.eye(2), 0.1)),
    "TrustRegionStep with rows": lambda: solve(TrustRegionStep([1.0, 2.0], np.eye(2), 0.1, [([1.0, 0.0], -0.1)])),
    "TrustRegionStep infeasible": lambda: solve(TrustRegionStep([1.0, 2.0], np.eye(2), 0.1, [([1.0, 0.0], 9.0)])),
    "PolicyUpdate": lambda: update(TRPO),
    "PolicyUpdate by CPO": lambda: update(CPO),
    "PolicyUpdate with nothing to learn": lambda: update(TRPO, spread=0.0),
    "PolicyComparison": lambda: compare_policies(CHAIN, UNIFORM, np.zeros(5, dtype=int)),
    "Iteration": lambda: history(1)[0],
    "History": lambda: history(2),
    "History of many": lambda: history(25),
    "History of none": lambda: History(),
    "OnlineRun": lambda: ORePS(LAYERED.mdp, 2, n_episodes=20).run(LAYERED.losses(20, seed=1)),
}


@pytest.fixture(scope="module", params=RESULTS)
def result(request: pytest.FixtureRequest) -> Result:
    return RESULTS[request.param]()


def test_summary_is_lines_a_person_reads(result: Result) -> None:
    lines = str(result).splitlines()
    assert lines[0].startswith(result.title.splitlines()[0])
    assert len(lines) == 1 + len(result.rows())
    assert len(lines) <= 25
    assert all(len(line) <= 200 for line in lines)
    assert repr(result) == str(result)


def test_notebook_table_has_every_row(result: Result) -> None:
    page = result._repr_html_()
    assert page.count("<tr>") == len(result.rows())
    assert page.startswith("<table>")


def test_dataset_names_every_array_and_number(result: Result) -> None:
    data = result.to_xarray()
    assert set(data.data_vars) == set(result.arrays())
    assert set(data.attrs) == set(result.numbers())
    for name, (dims, values) in result.arrays().items():
        assert data[name].dims == tuple(dims)
        np.testing.assert_array_equal(data[name].values, np.asarray(values))


def test_frame_has_a_row_an_entry_of_the_first_array(result: Result) -> None:
    table = result.to_frame()
    arrays = result.arrays()
    if arrays:
        name, (_, values) = next(iter(arrays.items()))
        assert len(table) == np.size(values)
        if name in table:
            np.testing.assert_array_equal(table[name].to_numpy(), np.ravel(values))
    else:
        assert len(table) <= 1


def test_saved_files_hold_the_same(result: Result, tmp_path: Path) -> None:
    arrays, numbers = result.arrays(), result.numbers()
    read = xarray.load_dataset(result.save(tmp_path / "result.nc"), engine="scipy")
    whole = {"solution"} if isinstance(result, Solution) else set()  # for Solution.load
    assert set(read.attrs) == set(numbers) | whole
    with np.load(result.save(tmp_path / "result.npz"), allow_pickle=False) as file:
        assert set(file.files) == set(arrays) | set(numbers) | whole
        for name, (_, values) in arrays.items():
            np.testing.assert_array_equal(file[name], np.asarray(values))
            np.testing.assert_array_equal(read[name], np.asarray(values))
    with open(result.save(tmp_path / "result.csv"), newline="") as text:
        assert len(list(csv.reader(text))) >= 1


def test_figure_is_drawn(result: Result) -> None:
    figure = result.plot()
    figure.draw_without_rendering()
    assert figure.axes
    plt.close(figure)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in .nc, .npz or .csv, got 'result.pkl'"):
        history(1).save(tmp_path / "result.pkl")
    assert not list(tmp_path.iterdir())


def test_online_run_shows_a_bar_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    ORePS(LAYERED.mdp, 2, n_episodes=20).run(LAYERED.losses(20, seed=1), progress=True)
    assert "episodes" in capsys.readouterr().err


LABELS = {"state_labels": ["start", "hole", "goal"], "action_labels": [("dx", 1), 2]}


def labelled() -> MDP:
    P = np.full((3, 2, 3), 1 / 3)
    return MDP(P, np.arange(6.0).reshape(3, 2), 0.9, **LABELS)


def test_labels_of_states_and_actions_travel_into_tables_and_files(tmp_path: Path) -> None:
    mdp = labelled()
    solution = solve(REPS(mdp, mdp.occupancy(mdp.uniform_policy()), 0.1))
    data = solution.to_xarray()
    assert data.state.values.tolist() == ["start", "hole", "goal"]
    assert data.action.values.tolist() == ["('dx', 1)", "2"]  # of several kinds: as words
    assert float(data.policy.sel(state="goal").sum()) == pytest.approx(1)
    assert solution.to_frame().loc["hole"].shape[0] == 2
    again = xarray.load_dataset(solution.save(tmp_path / "answer.nc"), engine="scipy")
    assert again.state.values.astype(str).tolist() == ["start", "hole", "goal"]
    unlabelled = mdp.replace(state_labels=None, action_labels=None)
    plain = solve(REPS(unlabelled, unlabelled.occupancy(unlabelled.uniform_policy()), 0.1))
    assert plain.to_xarray().state.values.tolist() == [0, 1, 2]


def test_the_answers_of_a_sweep_stack_along_what_was_swept() -> None:
    radii = [0.01, 0.02, 0.05, 0.1, 0.2]
    path = solve_path(REPS(CHAIN, Q, 0.1), radii)
    sweep = xarray.concat([solution.to_xarray() for solution in path], dim="epsilon", coords="all")
    assert sweep.policy.dims == ("epsilon", "state", "action")
    np.testing.assert_array_equal(sweep.epsilon, radii)
    for name in ("eta", "kl", "objective", "gap"):
        np.testing.assert_array_equal(sweep[name], [solution.numbers()[name] for solution in path])
    np.testing.assert_array_equal(sweep.status, ["certified"] * 5)
    np.testing.assert_array_equal(sweep.sel(epsilon=0.05).occupancy, path[2].occupancy)
    prices = [solve(REPS(CHAIN, Q, temperature=price)).to_xarray() for price in (0.1, 1.0)]
    np.testing.assert_array_equal(xarray.concat(prices, dim="temperature", coords="all").temperature, [0.1, 1.0])
