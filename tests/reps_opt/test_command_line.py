"""The command line does what the library does, and its exit code says how it went."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
import xarray
from typer.testing import CliRunner, Result

import reps_opt
from reps_opt import MDP, REPS, doctor, solve
from reps_opt.command_line import EXIT_CODES, Route, app
from reps_opt.solution import Status


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def lake() -> MDP:
    return MDP.from_gymnasium("FrozenLake-v1")


def test_solve_prints_the_answer_and_writes_figure_and_arrays(lake: MDP, tmp_path: Path) -> None:
    figure, arrays = tmp_path / "out.png", tmp_path / "out.nc"
    done = run("solve", "FrozenLake-v1", "--epsilon", "0.3", "--plot", str(figure), "--save", str(arrays))
    assert done.exit_code == 0, done.output
    solution = solve(REPS(lake, lake.occupancy(lake.uniform_policy()), 0.3))
    assert f"{solution.objective:.10g}" in done.output
    assert "optimal policy  0.542026" in done.output
    assert figure.read_bytes().startswith(b"\x89PNG")
    np.testing.assert_allclose(xarray.load_dataset(arrays, engine="scipy").policy, solution.policy, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("route", list(Route))
def test_every_route_gives_the_same_answer(route: Route) -> None:
    done = run("solve", "FrozenLake-v1", "--gamma", "0.8", "--epsilon", "1", "--solver", route.value)
    assert done.exit_code == 0, done.output
    assert "new policy      0.01504" in done.output


@pytest.mark.parametrize("route", [Route.NEWTON, Route.SCIPY, Route.CLARABEL])
def test_verbose_shows_iterations(route: Route, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ("solve", "FrozenLake-v1", "--solver", route.value)
    quiet = run(*arguments).output + capfd.readouterr().out
    shown = run(*arguments, "--verbose").output + capfd.readouterr().out  # Clarabel writes past Python
    assert len(shown.splitlines()) >= len(quiet.splitlines()) + 8


def test_environment_options_temperature_and_average_reward() -> None:
    done = run("solve", "FrozenLake-v1", "--temperature", "0.01", "--option", "is_slippery=false")
    assert done.exit_code == 0
    assert "temperature=0.01" in done.output
    done = run("solve", "FrozenLake-v1", "--gamma", "1", "--option", "map_name=8x8")
    assert done.exit_code == 0
    assert "64 states" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NoSuchLake-v1"], "NoSuchLake"),
        (["CartPole-v1"], "transition table"),
        (["FrozenLake-v1", "--epsilon", "-1"], "epsilon must be >= 0"),
        (["FrozenLake-v1", "--epsilon", "1", "--temperature", "1"], "exclude each other"),
        (["FrozenLake-v1", "--option", "slippery"], "option must be NAME=VALUE"),
        (["FrozenLake-v1", "--option", "map_name=16x16"], 'cannot be made with --option map_name="16x16": KeyError'),
        (["FrozenLake-v1", "--option", "colour=3"], "unexpected keyword argument 'colour'"),
        (["Taxi-v4", "--option", "fickle_passenger=true"], "fickle passenger"),
        (["FrozenLake-v1", "--colour", "3"], "No such option"),
        (["FrozenLake-v1", "--save", "answer.pkl"], "path must end in"),
        (["FrozenLake-v1", "--plot", "no/such/folder/out.png"], "No such file"),
        (["FrozenLake-v1", "--solver", "abacus"], "abacus"),
        ([], "Missing argument"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(arguments: list[str], message: str) -> None:
    done = run("solve", *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_exit_code_tells_the_status(monkeypatch: pytest.MonkeyPatch, lake: MDP) -> None:
    assert set(EXIT_CODES) == {str(status) for status in Status}
    solution = solve(REPS(lake, lake.occupancy(lake.uniform_policy()), 0.5))
    worse = dataclasses.replace(solution, status=Status.UNCERTIFIED)
    monkeypatch.setattr("reps_opt.command_line._solution", lambda *_: worse)
    assert run("solve", "FrozenLake-v1").exit_code == 1


def test_the_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert done.exit_code == 0
    assert done.output == f"reps_opt {reps_opt.__version__}\n"


def test_doctor_is_well_here() -> None:
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0].endswith(" is well")
    for name in (*doctor.GAUSSIAN_POLICIES, *doctor.DISCRETE_POLICIES):
        assert f"{name} " in done.output
    assert "100 transitions" in done.output
    for word in ("numpy", "threads", "REPS by Newton", "CvxpyDual, CLARABEL", "CvxpyPrimal, SCS", "TrustRegionStep"):
        assert word in done.output
    assert "FAILED" not in done.output


def test_doctor_notices_a_route_that_breaks_and_one_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = doctor.solve

    def broken(problem: object, route: object = None) -> object:
        if type(route).__name__ == "ScipyDual":
            raise RuntimeError("no such routine")
        found = right(problem, route)  # type: ignore[arg-type]
        wrong = type(route).__name__ == "CvxpyDual"
        better = dataclasses.replace(found.certificate, lower=found.objective + 1e-3)
        return found.replace(certificate=better) if wrong else found

    monkeypatch.setattr(doctor, "solve", broken)
    done = run("doctor")
    assert done.exit_code == 1
    assert "FAILED: RuntimeError: no such routine" in done.output
    assert "by Newton" in done.output.split("CvxpyDual, CLARABEL")[1].splitlines()[0]
    assert "NOT well" in done.output


@pytest.fixture
def without_problems(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(doctor, "_cases", lambda: iter(()))
    for names in ("GAUSSIAN_POLICIES", "DISCRETE_POLICIES"):
        monkeypatch.setattr(doctor, names, getattr(doctor, names)[:1])
    return monkeypatch


def test_doctor_notices_a_missing_package(without_problems: pytest.MonkeyPatch) -> None:
    without_problems.setattr(doctor, "NEEDED", ("numpy", "no-such-package"))
    found = doctor.examine()
    assert not found.healthy
    assert "MISSING" in str(found)


def test_doctor_does_not_call_well_what_it_could_not_try(without_problems: pytest.MonkeyPatch) -> None:
    without_problems.setattr(doctor, "OPTIONAL", ("no-such-package",))
    without_problems.setattr(doctor, "CONIC_SOLVERS", ("ABACUS",))
    without_problems.setattr(doctor, "find_spec", lambda name: None if name == "torch" else name)
    found = doctor.examine()
    assert found.healthy  # what is there works
    left_out = ("no-such-package", "routes by ABACUS", "a kernel of gpytorch")
    assert found.title.endswith(f"is well as far as it is installed, which leaves out {', '.join(left_out)}")
    assert "not tried: torch not installed" in str(found)


def test_doctor_notices_a_policy_that_is_a_little_off(without_problems: pytest.MonkeyPatch) -> None:
    import policies

    class Askew(policies.LinearGaussianPolicy):
        def predict(self, states: object) -> np.ndarray:
            return np.asarray(super().predict(states)) + 0.2

    without_problems.setattr("policies.LinearGaussianPolicy", Askew)
    assert "FAILED: ValueError: the fit is off by" in str(doctor.examine())


def test_doctor_notices_policies_and_roll_outs_that_break(without_problems: pytest.MonkeyPatch) -> None:
    import policies

    class Backward(policies.LinearGaussianPolicy):
        def predict(self, states: object) -> np.ndarray:
            return -np.asarray(super().predict(states))

    without_problems.setattr("policies.LinearGaussianPolicy", Backward)
    without_problems.setattr("reps_opt.learning.rollouts.rollout", lambda *_, **__: 1 / 0)
    found = doctor.examine()
    assert not found.healthy
    assert "FAILED: ValueError: the fit is off by" in str(found)
    assert "FAILED: ZeroDivisionError" in str(found)


def test_the_module_runs_as_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["reps_opt", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("reps_opt", run_name="__main__")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "doctor" in shown
    assert "solve" in shown
