"""The distance of a certificate: the optimum lies within it, also of answers that were broken off."""

import numpy as np
import pytest

from reps_opt import REPS, Certificate, ConditionalREPS, FiniteHorizonREPS, TrustRegionStep, solve
from reps_opt.solvers import Newton
from tests.reps_opt.small_mdps import random_case


def test_a_certificate_knows_nothing_of_distances_unless_told():
    plain = Certificate(0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0)
    assert (plain.unit, plain.distance) == (1.0, 1.0)


RADII = np.array([0.001, 0.3, 0.01, 0.5, 0.1])


def posed(family, case):
    mdp, q = case.mdp, case.reference
    policy = q / q.sum(axis=1, keepdims=True)
    if family == "per_step":
        return FiniteHorizonREPS(mdp, policy, 5, epsilon=RADII, ball="per_step")
    if family == "shared":
        return FiniteHorizonREPS(mdp, policy, 5, epsilon=0.3)
    return REPS(mdp, q, 0.3, divergence=family)


@pytest.mark.parametrize("family", ["kl", "chi2", "shared", "per_step"])
@pytest.mark.parametrize("seed", range(10))
def test_the_optimum_lies_within_the_distance_of_an_answer_broken_off(family, seed):
    problem = posed(family, random_case(seed))
    best = solve(problem)
    starts = problem.program.domain.starts
    starts = np.zeros(1, dtype=int) if starts is None else starts
    told = []
    for iterations in range(1, 5):
        solution = solve(problem, Newton(max_iterations=iterations))
        apart = np.add.reduceat(np.abs(solution.point - best.point), starts).max() / 2
        assert apart <= solution.certificate.distance + best.certificate.distance + 1e-12
        told.append(solution.certificate.distance)
    assert min(told) < 1


def test_no_distance_is_claimed_where_pinsker_does_not_hold():
    case = random_case(0)
    policy = case.reference / case.reference.sum(axis=1, keepdims=True)
    problems = [
        ConditionalREPS(case.mdp, policy, 0.3),
        REPS(case.mdp, case.reference, 0.3, divergence="reverse_kl"),
        TrustRegionStep([1.0, 2.0], np.eye(2), 0.1),
    ]
    assert [solve(problem).certificate.distance for problem in problems] == [1.0, 1.0, 1.0]
