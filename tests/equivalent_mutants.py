"""Mutants that no test can tell from the original, by the names that ``python -m tests.mutate`` gives them, and why."""

EDGE = "a computed float equals a tolerance with probability zero, and either answer is right then"
NOTHING = "what is added is zero"

EQUIVALENT: dict[str, str] = {
    "reps_opt.certify.into_balls op 0: outside < SOLVED": EDGE,
    "reps_opt.certify.into_balls op 0: room <= -outside": EDGE,
    "reps_opt.certify.into_balls op 0: share >= LARGEST_REPAIR": EDGE,
    "reps_opt.certify.into_balls op 0: outside < DIVERGENCE_TOLERANCE": EDGE,
    "reps_opt.certify._judge op 0: abs(gap) < shown < math.inf": EDGE,
    "reps_opt.certify._judge op 0: gap > -missed": EDGE,
    "reps_opt.certify.unit_of op 0: 0 <= eta < math.inf": NOTHING,
    "reps_opt.certify._unit_without_ball op 0: missing >= AT_THE_TOP * size": EDGE,
    "reps_opt.certify._unit_without_ball op 0: scale >= CLOSE * size": EDGE,
    "reps_opt.certify.offered_bounds op 0: d < b.allowed - CLOSE": EDGE,
    "reps_opt.certify.offered_bounds op 0: divergences[0] < program.epsilon - CLOSE": EDGE,
    "reps_opt.program.Program.normalised op: high + low (2)": "where the range is infinite its upper end is",
    "reps_opt.program.Program.stacked value: 1": "of numbers for no rows none is left once they are cut",
    "reps_opt.program.Program.within op 0: point.min() >= TINY": EDGE,
    "reps_opt.program.Program.normalised value: 1.0 (2)": "zero and one are both one after `or 1.0`",
}
