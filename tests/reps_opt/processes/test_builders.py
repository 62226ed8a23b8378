"""MDPs from what people bring: tables, transitions, batches, matrices an action."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import envs
from reps_opt import MDP, Batch, LinearProgram, rollout, solve
from reps_opt.tolerances import SINGLE_SUM_TOLERANCE, SUM_TOLERANCE

RAGGED = {0: {0: [(1.0, 0, 0.0, False)]}, 1: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 1.0, False)]}}
BOTH_WAYS = {0: {0: [(1, 1, 0, False)], 1: [(1, 1, 4, True)]}, 1: {0: [(1, 0, 1.5, False)]}}


def random_tables(S: int, A: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(S), (S, A)), rng.normal(size=(S, A, S))


class TestFromTable:
    def test_actions_that_a_state_lacks_stay_out(self) -> None:
        mdp = MDP.from_table(RAGGED, gamma=0.9, mu0=[0, 1])
        assert mdp.solve_optimal().value == pytest.approx([0, 10])
        assert not mdp.allowed[0, 1]
        np.testing.assert_array_equal(mdp.uniform_policy(), [[1, 0], [0.5, 0.5]])
        assert solve(LinearProgram(mdp)).policy[0, 1] == 0

    def test_a_later_state_may_have_fewer_actions(self) -> None:
        swapped = {0: RAGGED[1] | {0: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 1, 0.0, False)]}}
        swapped[0][1] = [(1.0, 0, 1.0, False)]
        assert MDP.from_table(swapped, gamma=0.9).solve_optimal().value == pytest.approx([10, 0])

    def test_the_way_in_decides_what_ends(self) -> None:
        mdp = MDP.from_table(BOTH_WAYS, gamma=0.95, mu0=[1, 0])
        going_on = 0.95 * 1.5 / (1 - 0.95**2)  # = 14.615, as against 4 for ending
        assert mdp.solve_optimal().value[0] == pytest.approx(going_on, rel=1e-12)
        assert mdp.value([1, 0, 0])[0] == pytest.approx(4)
        assert mdp.state_labels == ("0", "1", "1 (end)")
        assert mdp.mu0.tolist() == [1, 0, 0]

    def test_a_state_only_entered_with_done_absorbs_in_place(self) -> None:
        table = {0: {0: [(1, 1, 4, True)]}, 1: {0: [(1, 0, 1.5, False)]}}
        mdp = MDP.from_table(table, gamma=0.95, mu0={0: 1.0})
        assert mdp.n_states == 2
        assert mdp.value([0, 0]) == pytest.approx([4, 0])
        started = MDP.from_table(table, gamma=0.95, mu0={1: 1.0})  # a start counts as a way in that goes on
        assert started.value([0, 0, 0]) == pytest.approx([4, 1.5 + 0.95 * 4, 0])

    def test_an_end_without_a_row_needs_none(self) -> None:
        mdp = MDP.from_table({0: {0: [(0.5, 0, 1.0, False), (0.5, 1, 1.0, True)]}}, gamma=0.5)
        assert mdp.value([0, 0]) == pytest.approx([1 / 0.75, 0])

    def test_a_dead_end_is_named_unless_it_is_wished(self) -> None:
        table = {"a": {"go": [(1.0, "b", 1.0, False)]}}
        with pytest.raises(ValueError, match="missing actions: 'b' can be entered"):
            MDP.from_table(table)
        mdp = MDP.from_table(table, missing="absorb")
        assert mdp.state_labels == ("a", "b")
        assert mdp.action_labels == ("go",)
        assert mdp.value([0, 0]) == pytest.approx([1, 0])

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_what_gymnasium_holds_is_what_from_gymnasium_reads(self, wrapped: bool) -> None:
        env = gymnasium.make("CliffWalking-v1").unwrapped
        held = SimpleNamespace(P=env.P, initial_state_distrib=env.initial_state_distrib)
        mdp = MDP.from_table(env if wrapped else held, gamma=0.9)
        assert mdp == MDP.from_gymnasium("CliffWalking-v1", gamma=0.9).replace(layout=None)

    def test_lists_serve_as_tables_and_done_may_be_left_out(self) -> None:
        mdp = MDP.from_table([[[(1.0, 0, 0.0)]], [[(1.0, 0, 0.0)], [(1.0, 1, 1.0)]]], gamma=0.9, mu0=[0, 1])
        assert mdp == MDP.from_table(RAGGED, gamma=0.9, mu0=[0, 1])

    def test_average_reward_asks_what_follows_an_end(self) -> None:
        with pytest.raises(ValueError, match="on_done must be given with gamma=1"):
            MDP.from_table(BOTH_WAYS, gamma=1.0)
        assert MDP.from_table(RAGGED, gamma=1.0).solve_optimal().gain.tolist() == [0, 1]
        again = MDP.from_table(BOTH_WAYS, gamma=1.0, mu0=[1, 0], on_done="restart")
        assert again.gain([1, 0])[0] == pytest.approx(4)

    @pytest.mark.parametrize(
        ("table", "error", "message"),
        [
            ({}, ValueError, "table is empty"),
            ({0: {0: []}}, ValueError, r"table\[0\]\[0\] must list at least one outcome"),
            ({0: {0: [(1.0, 0)]}}, ValueError, r"table\[0\]\[0\] must hold \(probability"),
            ({0: {0: [(0.9, 0, 0.0, False)]}}, ValueError, r"state 0, action 0 sums to 0\.9"),
            ({0: {0: [(1.5, 0, 0.0, False), (-0.5, 0, 0.0, False)]}}, ValueError, "probabilities"),
            ({0: {0: [(1.0, 0, np.nan, False)]}}, ValueError, r"rewards\[0\] is nan"),
            ("P", TypeError, "table must be a mapping"),
        ],
    )
    def test_bad_tables_are_named(self, table: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            MDP.from_table(table)

    def test_unknown_choices_are_named(self) -> None:
        with pytest.raises(ValueError, match="missing must be one of"):
            MDP.from_table(RAGGED, missing="ignore")
        with pytest.raises(ValueError, match="mu0 names the state 7"):
            MDP.from_table(RAGGED, mu0={7: 1.0})


def random_table(seed: int) -> dict:
    """Three to six states with one to three actions each, whose outcomes end the process one time in four."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 7))
    table: dict = {}
    for s in range(n):
        table[s] = {}
        for a in rng.choice(3, rng.integers(1, 4), replace=False):
            chances = rng.dirichlet(np.ones(rng.integers(1, 4)))
            table[s][int(a)] = [
                (p, int(rng.integers(n)), float(rng.normal()), bool(rng.random() < 0.25)) for p in chances
            ]
    return table


def worth(table: dict, gamma: float, start: np.ndarray | None = None) -> np.ndarray:
    """Optimal values straight from a table: what ends is worth nothing more, or with a start what the start is."""
    value = np.zeros(len(table))
    for _ in range(1500):
        ended = 0.0 if start is None else start @ value
        ahead = [
            [sum(p * (r + gamma * (ended if done else value[t])) for p, t, r, done in row) for row in actions.values()]
            for actions in table.values()
        ]
        value = np.array([max(each) for each in ahead])
    return value


@pytest.mark.parametrize("seed", range(25))
def test_random_tables_are_worth_what_value_iteration_on_them_says(seed: int) -> None:
    table = random_table(seed)
    n, start = len(table), np.random.default_rng(seed).dirichlet(np.ones(len(table)))
    ending = MDP.from_table(table, gamma=0.95, mu0=start)
    np.testing.assert_allclose(ending.solve_optimal().value[:n], worth(table, 0.95), atol=1e-10)
    again = MDP.from_table(table, gamma=0.95, mu0=start, on_done="restart")
    np.testing.assert_allclose(again.solve_optimal().value, worth(table, 0.95, start), atol=1e-10)
    renamed = {
        f"s{s}": {f"a{a}": [(p, f"s{t}", r, d) for p, t, r, d in row] for a, row in actions.items()}
        for s, actions in table.items()
    }
    labelled = MDP.from_table(renamed, gamma=0.95, mu0={f"s{i}": p for i, p in enumerate(start)})
    np.testing.assert_allclose(labelled.solve_optimal().value, ending.solve_optimal().value, atol=1e-10)


ROWS = [
    ("start", "left", "hole", 0.0),
    ("start", "right", "goal", 1.0),
    ("start", "right", "goal", 2.0),
    ("start", "right", "hole", 0.0),
    ("hole", "left", "hole", 0.0),
    ("goal", "left", "start", 0.5),
]


class TestFromTransitions:
    def test_a_frame_gives_counts_means_and_labels(self) -> None:
        mdp = MDP.from_transitions(pd.DataFrame(ROWS, columns=["from", "action", "to", "reward"]), gamma=0.9)
        assert mdp.state_labels == ("start", "hole", "goal")
        assert mdp.action_labels == ("left", "right")
        np.testing.assert_array_equal(mdp.allowed, [[1, 1], [1, 0], [1, 0]])
        np.testing.assert_allclose(mdp.transitions[[1]].toarray(), [[0, 1 / 3, 2 / 3]])
        assert mdp.rewards[0, 1] == pytest.approx(1.0)  # mean 1.5 on the way to the goal, 0 to the hole
        np.testing.assert_array_equal(mdp.counts, [[1, 3], [1, 0], [1, 0]])

    @pytest.mark.parametrize("form", ["mapping", "columns", "weights", "probabilities"])
    def test_other_forms_of_the_same_rows(self, form: str) -> None:
        frame = pd.DataFrame(ROWS, columns=["from", "action", "to", "reward"])
        expected = MDP.from_transitions(frame)
        s, a, s2, r = (list(column) for column in zip(*ROWS, strict=True))
        if form == "mapping":
            found = MDP.from_transitions({"s": s, "a": a, "s2": s2, "r": r})
        elif form == "columns":
            found = MDP.from_transitions(np.array(s), a, s2, r)
        else:
            grouped = frame.groupby(["from", "action", "to"], sort=False, as_index=False).agg(
                reward=("reward", "mean"), n=("reward", "size")
            )
            if form == "weights":
                found = MDP.from_transitions(grouped, weight="n")
            else:
                grouped["p"] = grouped["n"] / grouped.groupby(["from", "action"])["n"].transform("sum")
                found = MDP.from_transitions(grouped.drop(columns="n"))
                assert found.counts is None
        np.testing.assert_allclose(found.transitions.toarray(), expected.transitions.toarray())
        np.testing.assert_allclose(found.rewards, expected.rewards)
        assert found.state_labels == expected.state_labels

    def test_integers_from_zero_are_indices(self) -> None:
        mdp = MDP.from_transitions([2, 1, 0], [0, 0, 0], [1, 0, 2], [1.0, 2.0, 3.0])
        assert mdp.state_labels is None
        np.testing.assert_array_equal(mdp.rewards[:, 0], [3, 2, 1])
        gaps = MDP.from_transitions([7, 3], [0, 0], [3, 7], [1.0, 2.0])
        assert gaps.state_labels == (7, 3)

    def test_a_state_without_a_row_is_named_or_absorbs_by_wish(self) -> None:
        frame = pd.DataFrame(ROWS[:4], columns=["from", "action", "to", "reward"])
        with pytest.raises(ValueError, match="missing actions: 'hole', 'goal'"):
            MDP.from_transitions(frame)
        mdp = MDP.from_transitions(frame, missing="absorb", mu0={"start": 1.0})
        assert mdp.value([1, 0, 0]) == pytest.approx([1, 0, 0])

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            ({"data": {"s": [0], "a": [0], "s2": [0]}}, ValueError, "data must have a reward"),
            ({"data": 3.0}, TypeError, "data must be a frame or a mapping"),
            ({"data": [0], "actions": [0]}, ValueError, "go together"),
            (
                {"data": [0, 0], "actions": [0], "next_states": [0, 0], "rewards": [0, 0]},
                ValueError,
                "action must have",
            ),
            (
                {"data": ["a", None], "actions": [0] * 2, "next_states": ["a"] * 2, "rewards": [0] * 2},
                ValueError,
                r"state\[1\]",
            ),
            ({"data": [0], "actions": [0], "next_states": [0], "rewards": [np.nan]}, ValueError, r"reward\[0\] is nan"),
            ({"data": {"s": [0], "a": [0], "s2": [0], "r": [0], "weight": [-1]}}, ValueError, r"weight\[0\] is -1"),
            ({"data": {"s": [0], "a": [0], "s2": [0], "r": [0], "p": [0.5]}}, ValueError, "sums to 0.5"),
            (
                {"data": {"s": [0], "a": [0], "s2": [0], "r": [0], "p": [1], "n": [1]}, "weight": "n"},
                ValueError,
                "exclude",
            ),
            ({"data": {"s": [], "a": [], "s2": [], "r": []}}, ValueError, "data is empty"),
        ],
    )
    def test_bad_rows_are_named(self, given: dict, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            MDP.from_transitions(**given)


def value_iteration(batch: Batch, gamma: float, n: int) -> np.ndarray:
    """Optimal values of the frequencies, by the Bellman operator on dictionaries of counts."""
    seen: dict[tuple[int, int], list[tuple[int, float, bool]]] = {}
    rows = zip(batch.states, batch.actions, batch.next_states, batch.rewards, batch.terminated, strict=True)
    for s, a, s2, r, end in rows:
        seen.setdefault((int(s), int(a)), []).append((int(s2), float(r), bool(end)))
    value = np.zeros(n)
    for _ in range(3000):
        best = {}
        for (s, _a), outcomes in seen.items():
            worth = np.mean([r + gamma * (0.0 if end else value[s2]) for s2, r, end in outcomes])
            best[s] = max(best.get(s, -np.inf), worth)
        value = np.array([best.get(s, 0.0) for s in range(n)])
    return value


class TestFromBatch:
    def test_the_optimum_is_that_of_value_iteration_on_counts(self) -> None:
        batch = rollout("FrozenLake-v1", n_steps=500, seed=0)
        mdp = MDP.from_batch(batch, gamma=0.95, n_states=16, n_actions=4, missing="absorb")
        np.testing.assert_allclose(mdp.solve_optimal().value, value_iteration(batch, 0.95, 16), atol=1e-12)
        never = np.ones((16, 4), dtype=bool)
        never[batch.states.ravel(), batch.actions.ravel()] = False
        np.testing.assert_array_equal(mdp.counts == 0, never)
        acting = np.isin(np.arange(16), batch.states)
        np.testing.assert_array_equal(mdp.allowed[acting], ~never[acting])
        assert mdp.counts.sum() == 500
        np.testing.assert_allclose(mdp.mu0, np.eye(16)[0])

    def test_a_reference_from_counts_is_possible(self) -> None:
        batch = rollout("FrozenLake-v1", n_steps=500, seed=0)
        mdp = MDP.from_batch(batch, gamma=0.95, missing="absorb")
        policy = np.where(mdp.counts > 0, mdp.counts, 0.0)
        policy[policy.sum(axis=1) == 0] = 1.0
        assert mdp.occupancy(policy / policy.sum(axis=1, keepdims=True)).sum() == pytest.approx(1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"states": [0.5, 1.0]}, r"batch.states\[0\] is 0.5"),
            ({"actions": [[0, 1], [1, 0]]}, "batch.actions must be integers"),
            ({"n_states": 1}, "n_states must be > 1"),
            ({"next_states": [1, 2]}, "missing actions: 2"),
        ],
    )
    def test_bad_batches_are_named(self, changes: dict, message: str) -> None:
        size = {name: changes.pop(name) for name in list(changes) if name.startswith("n_")}
        rows = {"states": [0, 1], "actions": [0, 1], "rewards": [0.0, 1.0], "next_states": [1, 0]} | changes
        if "states" in changes:
            rows["next_states"] = [1.0, 0.5]
        with pytest.raises(ValueError, match=message):
            MDP.from_batch(Batch(**rows), **size)


def test_an_empirical_model_counts_what_was_never_seen() -> None:
    batch = Batch([0, 1, 0], [0, 1, 0], [0.0, 1.0, 0.0], [1, 0, 0])
    assert repr(MDP.from_batch(batch, n_states=3)).endswith("4 pairs never seen)")
    assert "never seen" not in repr(MDP.from_table(RAGGED))


class TestMatricesAnAction:
    def test_three_dimensions_with_the_action_first(self) -> None:
        P, r = random_tables(3, 2)
        expected = MDP(P, r)
        by_action, by_pair = P.swapaxes(0, 1), (P * r).sum(axis=2)
        with pytest.raises(ValueError, match='order="ASS"'):
            MDP(by_action, by_pair)
        for rewards in (by_pair, r.swapaxes(0, 1), [sp.csr_matrix(r[:, a]) for a in range(2)]):
            found = MDP(by_action, rewards, order="ASS")
            np.testing.assert_allclose(found.transitions.toarray(), expected.transitions.toarray())
            np.testing.assert_allclose(found.rewards, expected.rewards)

    def test_where_states_and_actions_are_as_many_the_order_decides(self) -> None:
        P, r = random_tables(2, 2)
        by_pair = (P * r).sum(axis=2)
        assert MDP(P, by_pair) == MDP(P, by_pair, order="SAS") == MDP(P.swapaxes(0, 1), by_pair, order="ASS")
        assert MDP(P.swapaxes(0, 1), by_pair) != MDP(P, by_pair)

    def test_where_states_and_actions_are_as_many_the_order_is_asked_for(self) -> None:
        P, r = random_tables(2, 2)
        with pytest.warns(UserWarning, match='say order="SAS" or order="ASS"') as asked:
            MDP(P, r)
        assert asked[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for order in ("SAS", "ASS"):
                MDP(P, r, order=order)
            MDP(P.reshape(4, 2), (P * r).sum(axis=2))  # rows s*A + a: nothing to ask
            MDP(np.full((2, 2, 2), 0.5), r)  # both readings say the same
            MDP(*random_tables(3, 2))
            envs.gridworld((2, 2))

    def test_a_list_of_sparse_matrices(self) -> None:
        P, r = random_tables(4, 4)
        by_pair = (P * r).sum(axis=2)
        assert MDP([sp.coo_matrix(P[:, a]) for a in range(4)], by_pair) == MDP(P, by_pair)
        with pytest.raises(ValueError, match=r"P\[1\] must have shape \(4, 4\)"):
            MDP([sp.csr_array(P[:, 0]), sp.csr_array(P[:2, 0])], by_pair)

    def test_an_unknown_order_is_named(self) -> None:
        P, r = random_tables(2, 2)
        with pytest.raises(ValueError, match="order must be one of"):
            MDP(P, r, order="SSA")
        with pytest.raises(ValueError, match="three dimensions"):
            MDP(P.reshape(4, 2), r, order="ASS")


class TestSparseRewards:
    def test_rewards_by_next_state_are_averaged_without_a_dense_table(self) -> None:
        n = 200_000  # a dense (S*A, S) table would take 640 GB
        ahead = np.arange(1, n + 1) % n
        P = sp.csr_array((np.ones(2 * n), (np.arange(2 * n), np.repeat(ahead, 2))), shape=(2 * n, n))
        r = sp.csr_array((np.arange(2.0 * n), (np.arange(2 * n), np.repeat(ahead, 2))), shape=(2 * n, n))
        np.testing.assert_array_equal(MDP(P, r).rewards.ravel(), np.arange(2.0 * n))

    def test_entries_where_nothing_leads_do_not_count(self) -> None:
        P, r = random_tables(3, 2)
        P[0, 0] = [1, 0, 0]
        expected = MDP(P, r)
        for kind in (sp.coo_array, sp.lil_array, sp.dok_array):
            found = MDP(sp.csr_array(P.reshape(6, 3)), kind(r.reshape(6, 3)))
            np.testing.assert_allclose(found.rewards, expected.rewards, atol=1e-15)
        by_pair = (P * r).sum(axis=2)
        np.testing.assert_allclose(MDP(P, sp.csr_array(by_pair)).rewards, by_pair)
        with pytest.raises(ValueError, match=r"r\.data\[0\] is nan"):
            MDP(P, sp.csr_array(np.where(r.reshape(6, 3) == r[0, 0, 0], np.nan, 0.0)))
        with pytest.raises(ValueError, match="r must have shape"):
            MDP(P, sp.csr_array(np.ones((3, 4))))


class TestSinglePrecision:
    def test_tables_of_single_precision_are_renormalised(self) -> None:
        P = np.array([[[0.1, 0.9]]] * 2, np.float32)
        assert abs(P.astype(float).sum(axis=2) - 1).max() > 1e-8
        for given in (P, P.tolist(), sp.csr_array(P.reshape(2, 2))):
            mdp = MDP(given, np.zeros((2, 1)))
            np.testing.assert_allclose(mdp.transitions.sum(axis=1), 1.0, rtol=1e-15)

    def test_policies_and_starts_of_single_precision_too(self) -> None:
        rng = np.random.default_rng(0)
        mdp = MDP(np.full((20, 7, 20), 0.05), rng.normal(size=(20, 7)))
        logits = rng.normal(size=(20, 7)).astype(np.float32)
        policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert policy.dtype == np.float32
        assert abs(policy.astype(float).sum(axis=1) - 1).max() > 1e-8
        np.testing.assert_allclose(mdp.as_policy(policy).sum(axis=1), 1.0, rtol=1e-15)
        assert mdp.replace(mu0=policy[0, :1] * 0 + np.full(20, 0.05, np.float32)).mu0.sum() == pytest.approx(1)

    def test_what_precision_does_not_explain_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="sum to one"):
            MDP(np.array([[[0.1, 0.90001]]] * 2, np.float32), np.zeros((2, 1)))
        with pytest.raises(ValueError, match="sum to one"):
            MDP(np.array([[[0.1, 0.9 + 5e-8]]] * 2), np.zeros((2, 1)))

    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_how_far_from_one_rows_may_sum(self, kind: type) -> None:
        allowed = SUM_TOLERANCE if kind is np.float64 else SINGLE_SUM_TOLERANCE
        MDP(np.full((1, 1, 1), 1 + 0.7 * allowed, kind), np.zeros((1, 1)))
        with pytest.raises(ValueError, match="sum to one"):
            MDP(np.full((1, 1, 1), 1 + 1.5 * allowed, kind), np.zeros((1, 1)))


def test_masked_entries_are_named() -> None:
    P, r = random_tables(2, 2)
    with pytest.raises(ValueError, match=r"r\[0, 1, 0\] is masked"):
        MDP(P, np.ma.masked_array(r, mask=np.arange(8).reshape(2, 2, 2) == 2))
    np.testing.assert_allclose(MDP(P, np.ma.masked_array(r)).rewards, MDP(P, r).rewards)
