"""Which numbers decide anything: ``python -m tests.deciding``; ``NAME ...`` or ``NAME=TEST ...`` for some alone.

A number decides if its half or its double would have a test go another way, which is found out in two ways.

The test that ``DECIDED_BY`` names is run with the number halved, and doubled: one of the two must fail. That takes some
seconds a number; ``NAME=TEST`` tries another test. Of ``1 - 1e-5`` it is the distance from one that is halved and
doubled, of a collection every number.

All other numbers are followed through the suite, which takes a seventh longer: each carries its half and its double
along through arithmetic, arrays and loops, and every comparison made with it is made thrice. A number whose comparisons
always agreed decides nothing. What is turned into a plain number on the way, by a library or by ``float``, is lost.
That alone, for some of the tests: ``python -m pytest -p tests.deciding tests/reps_opt``; a test that asks for the very
type of a default may fail there.

What decides nothing goes, or gets the test in which it decides, or stands in ``BY_BENCHMARK``.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib.abc
import importlib.machinery
import operator
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("reps_opt", "policies")
HOMES = ("reps_opt.tolerances", "policies.tolerances")
QUASI_NEWTON = "tests/reps_opt/solvers/test_quasi_newton.py::test_small_problems_ridges_and_penalties_go_to_newton"
SECOND_ROUTES = "tests/reps_opt/solvers/test_routes.py::test_a_second_route_is_one_that_takes_about_a_second"

VALUE_FEATURES = "tests/reps_opt/problems/test_value_features.py"
SAMPLES = "tests/reps_opt/problems/test_samples.py"
UPDATES = "tests/reps_opt/learning/test_updates.py"
START = "tests/policies/test_start_policies.py"
MULTILEVEL = "tests/reps_opt/systems/test_multilevel.py"
PROCESSES = "tests/reps_opt/processes"
PROMISES = "tests/reps_opt/learning/test_promises.py"

DECIDED_BY = {
    "LOST_IN_ROUNDING": "tests/reps_opt/test_judge.py::"
    "test_a_bound_at_multipliers_beyond_all_values_is_one_in_spite_of_rounding",
    "CHUNK_BYTES": "tests/policies/test_gp.py::test_predictions_at_many_states_take_memory_for_some_at_a_time",
    "BANDWIDTHS": "tests/policies/test_linear_policies.py",
    "HELD_OUT_SAMPLES": "policies/network_training.py",
    "LEVERAGE_PROJECTIONS": "tests/reps_opt/systems/test_sampled_equations.py",
    "LOG_PRIOR_STD": "tests/policies/test_gp.py::test_of_ten_columns_it_finds_the_one_that_matters",
    "EVEN_FEATURES": f"{SAMPLES}::test_features_are_whitened_where_they_are_nearly_dependent",
    "FISHER_DAMPING": f"{UPDATES}::test_parameters_that_do_all_but_the_same_hardly_move_against_each_other",
    "CUBED": f"{UPDATES}::test_fisher_matrices_are_factorised_up_to_a_thousand",
    "INSIDE": f"{UPDATES}::test_the_line_search_shortens_until_the_true_kl_fits",
    "PRIOR_SHAPE": "tests/policies/test_softmax.py",
    "DIGITS": "tests/reps_opt/solvers/test_decimal_newton.py",
    "KRYLOV_ITERATIONS": f"{PROCESSES}/test_exact_evaluation.py::test_a_large_grid_far_ahead_needs_no_factorisation",
    "SHRINKS": "tests/policies/test_gp.py::test_fast_oscillations_are_not_taken_for_noise",
    "FAR_SIGHTED": f"{PROCESSES}/test_average_reward.py::test_a_prize_a_little_better_and_far_off_is_found_at_once",
    "POINTS_AHEAD": "tests/reps_opt/test_solution_path.py::test_a_path_goes_on_where_the_last_solutions_point_to",
    "PRIOR_RATE": "tests/policies/test_softmax.py",
    "TYPICAL_NUMBERS": f"{START}::test_features_are_placed_by_hundreds_of_states_and_by_few_images",
    "TYPICAL_STATES": f"{START}::test_features_are_placed_by_hundreds_of_states_and_by_few_images",
    "HANDSHAKES": f"{MULTILEVEL}::test_matchings_of_several_rounds_spare_products",
    "STRONG_COUPLING": f"{MULTILEVEL}::test_a_row_is_not_matched_along_a_coupling_much_weaker_than_its_strongest",
    "ELIMINATION_WORK": f"{PROCESSES}/test_nearly_decomposable.py::test_a_chain_that_would_take_minutes_is_a_warning",
    "NARROW_WORK": f"{PROCESSES}/test_optimal_policies.py::test_a_large_narrow_chain_is_evaluated_by_factorisations",
    "PASSES_PER_GRAM": "tests/reps_opt/systems/test_sampled_equations.py",
    "ADAM": "tests/reps_opt/learning/test_value_network.py",
    "SWEEPS_BETWEEN": f"{PROCESSES}/test_optimal_policies.py::test_news_of_a_distant_reward_takes_few_policies",
    "FEWEST_WAVES": VALUE_FEATURES,
    "MOST_COLUMNS": VALUE_FEATURES,
    "MOST_COMPONENTS": VALUE_FEATURES,
    "MOST_DISCRETE_VALUES": VALUE_FEATURES,
    "MOST_WAVES": VALUE_FEATURES,
    "SLACK_ETA": f"{PROMISES}::test_a_ball_that_hardly_binds_leaves_the_weights_on_dozens_of_samples",
    "ALIGNED_SUM": "tests/reps_opt/test_vectors.py",
    "IMPOSSIBLE": "tests/policies/test_linear_policies.py::test_a_step_of_a_table_leaves_what_is_impossible_so",
    "UNMATCHED": f"{PROMISES}::test_weights_that_miss_a_hundredth_of_their_features_are_no_basis_for_an_update",
    "VALUE_RIDGE": VALUE_FEATURES,
    "WAVE_WIDTHS": VALUE_FEATURES,
    "CONIC_COORDINATES": SECOND_ROUTES,
    "CONIC_ENTRIES": SECOND_ROUTES,
    "DECIMAL_COORDINATES": SECOND_ROUTES,
    "DECIMAL_PRODUCTS": SECOND_ROUTES,
    "EFFECTIVE_PER_FEATURE": QUASI_NEWTON,
    "FEW_ROWS_SHARE": QUASI_NEWTON,
    "FIRST_RADIUS": QUASI_NEWTON,
    "LARGEST_FEW_ROWS_SHARE": QUASI_NEWTON,
    "LINE_SEARCH_GAP": f"{UPDATES}::test_the_status_of_a_rough_step_says_how_rough_it_is",
    "RADII_TO_SPARE": QUASI_NEWTON,
    "REMEMBERED": "tests/reps_opt/processes/test_flow.py::test_a_loop_over_eight_sets_of_actions_finds_each_flow_again",
    "SELF_TEST_ERROR": "tests/reps_opt/test_command_line.py::test_doctor_notices_a_policy_that_is_a_little_off",
    "SLOW_SYSTEM": "tests/reps_opt/systems/test_sampled_equations.py",
    "USUAL_RADIUS": "reps_opt/learning/fitted_updates.py",
}
"""Numbers that are not followed to any comparison that hangs on them, and a test that fails with half or double."""

BY_BENCHMARK = {
    "CURVATURE_FLOOR": "examples/trpo_mujoco.py",
    "FARTHER": "examples/trpo_mujoco.py",
    "FEW_ROWS_ITERATIONS": "tests/benchmarks/sample_dual.py",
    "FISHER_PRODUCT_DAMPING": "examples/trpo_mujoco.py",
    "NETWORK_CHUNK": "tests/benchmarks/steps.py",
    "THIN_SHARE": "tests/benchmarks/growth.py",
    "TIE_BREAK": "tests/benchmarks/growth.py",
}
"""Numbers that only a benchmark or an experiment shows to decide, and which; their reasons hold what it measured."""

CHANGED = os.environ.get("DECIDING_NUMBER", "")
FACTOR = float(os.environ.get("DECIDING_FACTOR", "1"))
"""The number that is halved or doubled in this process, if any."""

COMPARED: dict[str, list[int]] = defaultdict(lambda: [0, 0])
"""How often each number was compared, and how often the outcome hung on it."""


def followed(value: Any, name: str) -> Any:
    """A number, or a tuple of numbers, with half and double of it; anything else as it is."""
    COMPARED[name]
    if isinstance(value, tuple):
        return tuple(followed(item, name) for item in value)
    if type(value) not in KINDS:
        return value
    return KINDS[type(value)](value, scaled(value, 0.5), scaled(value, 2.0), frozenset([name]))


def scaled(value: Any, factor: float) -> Any:
    """Half or double of a number, or of every number in a collection."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, tuple):
        return tuple(scaled(item, factor) for item in value)
    if isinstance(value, dict):
        return {name: scaled(item, factor) for name, item in value.items()}
    if isinstance(value, int):
        return max(1, int(value * factor))
    if isinstance(value, Decimal):
        return value * Decimal(factor)
    if isinstance(value, float) and 0.9 < value < 1:
        return 1 - (1 - value) * factor
    return value * factor


def taken(value: Any, name: str) -> Any:
    """What a module of this process has as a number."""
    if CHANGED:
        return scaled(value, FACTOR) if name == CHANGED else value
    return followed(value, name)


def loop(*ends: Any) -> Any:
    """A range; each turn of one up to a followed number is a comparison."""
    if not isinstance(ends[-1], Followed):
        return range(*map(_plain, ends))

    def turns() -> Iterator[int]:
        turn = _plain(ends[0]) if len(ends) > 1 else 0
        while turn < ends[-1]:
            yield turn
            turn += 1

    return turns()


def _plain(x: Any) -> Any:
    return x.plain() if isinstance(x, Followed) else x


def thrice(function: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """The function of the numbers, their halves and their doubles; a comparison of these is counted."""
    names = frozenset().union(*(x.names for x in operands if isinstance(x, Followed)))
    found = function(*map(_plain, operands))
    if found is NotImplemented:
        return found
    try:
        with np.errstate(all="ignore"):
            low, high = (
                function(*(getattr(x, side, x) if isinstance(x, Followed) else x for x in operands))
                for side in ("low", "high")
            )
    except (ArithmeticError, ValueError, TypeError):
        return found
    if isinstance(found, tuple | list):  # several arrays, such as a singular value decomposition's
        return found
    if np.asarray(found).dtype == bool:
        for name in names:
            COMPARED[name][0] += 1
            COMPARED[name][1] += not (np.array_equal(found, low) and np.array_equal(found, high))
        return found
    if isinstance(found, np.ndarray) and found.ndim:
        array = found.view(FollowedArray)
        array.low, array.high, array.names = low, high, names
        return array
    if not isinstance(found, int | float | Decimal | np.integer | np.floating):
        return found
    kind = Decimal if isinstance(found, Decimal) else int if isinstance(found, int | np.integer) else float
    return KINDS[kind](found, low, high, names)


OPERANDS = (int, float, Decimal, np.generic, np.ndarray)


class Followed:
    """Half, double and origin of a number or an array."""

    low: Any = None
    high: Any = None
    names: frozenset[str] = frozenset()

    def plain(self) -> Any:
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if (
            method == "__call__"
            and options.get("out") is None
            and not any(getattr(x, "dtype", None) == np.object_ for x in inputs)
            and not any(isinstance(v, Followed) for v in options.values())
        ):
            known = [_plain(x) if isinstance(x, Followed) and x.low is None else x for x in inputs]
            return thrice(lambda *operands: ufunc(*operands, **options), known)
        plain = {k: tuple(map(_plain, v)) if isinstance(v, tuple) else _plain(v) for k, v in options.items()}
        return getattr(ufunc, method)(*map(_plain, inputs), **plain)


class FollowedArray(Followed, np.ndarray):
    def plain(self) -> Any:
        return self.view(np.ndarray)

    def __array_finalize__(self, parent: Any) -> None:
        pass  # a part of a followed array is followed no further

    def __reduce__(self) -> Any:
        return self.plain().__reduce__()


def _number(base: type) -> type:
    """A number of this type that is followed."""

    def new(cls: type, value: Any, low: Any, high: Any, names: frozenset[str]) -> Any:
        made = base.__new__(cls, value)
        made.low, made.high, made.names = low, high, names
        return made

    def binary(name: str) -> Callable[[Any, Any], Any]:
        function = getattr(operator, name)
        return lambda a, b: thrice(function, (a, b)) if isinstance(b, OPERANDS) else NotImplemented

    def reflected(name: str) -> Callable[[Any, Any], Any]:
        function = getattr(operator, name)
        return lambda a, b: thrice(function, (b, a)) if isinstance(b, OPERANDS) else NotImplemented

    arithmetic = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
    methods: dict[str, Any] = {
        f"__{name}__": binary(name) for name in (*arithmetic, "lt", "le", "gt", "ge", "eq", "ne")
    }
    methods |= {f"__r{name}__": reflected(name) for name in arithmetic}
    methods |= {
        "__new__": new,
        "__neg__": lambda a: thrice(operator.neg, (a,)),
        "__abs__": lambda a: thrice(abs, (a,)),
        "__hash__": lambda a: hash(a.plain()),
        "__reduce__": lambda a: (base, (a.plain(),)),
        "__deepcopy__": lambda a, memo: a,
        "__array_priority__": 1000,
        "plain": lambda a: base.__pos__(a),
    }
    return type(f"Followed{base.__name__.title()}", (Followed, base), methods)


KINDS = {kind: _number(kind) for kind in (float, int, Decimal)}


class _Loops(ast.NodeTransformer):
    """Ranges that may be followed."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "range" and len(node.args) < 3:
            node.func = ast.copy_location(ast.Name("__loop__", ast.Load()), node.func)
        return node


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with its named numbers followed."""

    def get_code(self, fullname: str) -> Any:
        tree = ast.parse(self.get_data(self.path))
        if fullname in HOMES:
            for node in tree.body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    name = ast.Constant(ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target))
                    call = ast.Call(ast.Name("__taken__", ast.Load()), [node.value, name], [])
                    node.value = ast.copy_location(call, node.value)
        elif not CHANGED:
            tree = _Loops().visit(tree)
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname.split(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def pytest_configure(config: pytest.Config) -> None:
    builtins.__taken__ = taken  # type: ignore[attr-defined]
    builtins.__loop__ = loop  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder())


def pytest_sessionfinish() -> None:
    if "DECIDING_FOLDER" in os.environ:  # of each process, where several share the tests
        decided = [name for name, (_, hung) in COMPARED.items() if hung]
        Path(os.environ["DECIDING_FOLDER"], str(os.getpid())).write_text("\n".join(decided), "utf-8")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if CHANGED or "DECIDING_FOLDER" in os.environ:
        return
    undecided = sorted(name for name, (_, hung) in COMPARED.items() if not hung)
    terminalreporter.section(f"{len(undecided)} of {len(COMPARED)} numbers never decided a comparison")
    for name in undecided:
        terminalreporter.write_line(f"{name} ({COMPARED[name][0]})")


def run_tests(arguments: Sequence[str], **environment: str) -> int:
    """pytest's exit code, with this module as a plug-in."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.deciding", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL).returncode


def fails(name: str, test: str) -> str:
    """How a number has to be changed for the test to fail; empty if neither way does."""
    for word, factor in (("halved", 0.5), ("doubled", 2.0)):
        if run_tests(["-x", *test.split()], DECIDING_NUMBER=name, DECIDING_FACTOR=str(factor)) == 1:
            return word
    return ""


def numbers() -> set[str]:
    """Names of all."""
    sources = [(ROOT / home.replace(".", "/")).with_suffix(".py").read_text("utf-8") for home in HOMES]
    found = [
        node for source in sources for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign)
    ]
    return {ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target) for node in found}


def follow() -> set[str]:
    """Numbers that decided no comparison in the suite, which takes a process a core."""
    with tempfile.TemporaryDirectory() as folder:
        run_tests(["-n", "auto", "--dist", "worksteal", "-m", "not slow"], DECIDING_FOLDER=folder)
        decided = [path.read_text("utf-8").split() for path in Path(folder).iterdir()]
    return numbers() - set().union(*decided)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME[=TEST]", help="numbers, by the tests that decide by them")
    wanted, nothing = parser.parse_args().names, set()
    for word in wanted or DECIDED_BY:
        name, _, test = word.partition("=")
        how = fails(name, test or DECIDED_BY[name])
        print(f"{name}: {how or 'nothing'} fails", flush=True)
        nothing |= set() if how else {name}
    if not wanted:
        nothing |= follow() - set(DECIDED_BY) - set(BY_BENCHMARK)
    print(f"{len(nothing)} numbers decide nothing: {' '.join(sorted(nothing))}")


if __name__ == "__main__":
    main()
