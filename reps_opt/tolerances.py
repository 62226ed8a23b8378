"""All numbers that decide something, each with its reason: a source, a measurement, or what it trades off.

Only a field of a solver, with its default, stands elsewhere: that one is its user's to set. What is drawn, printed or
written to files decides no answer, and stands where it is used. The first section is shared by all: its orders of
magnitude follow from double precision, whose numbers have 2.2e-16 relative spacing, and from what is certified, 1e-8
of mass and 1e-6 of the gap.
"""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

LAST_PLACE = 1e-15
"""Some units of the last place of a number of order one: a difference, or a residual, that is all rounding."""

ULPS = 8 * float(np.finfo(np.float64).eps)
"""Relative difference of two products, or of two values of a dual, that may be rounding: features or rewards that
differ by less have not differed."""

ROUNDING = 1e-12
"""What a thousand operations leave of rounding, relative to their numbers: ties, singular directions, margins."""

SOLVED = 1e-10
"""What solvers leave of a residual in a problem of size one, and ask of those they call."""

CLOSE = 1e-9
"""Between what solvers leave, 1e-10, and what certificates allow, 1e-8: two readings of an answer that near are one."""

VISIBLE = 1e-6
"""A certificate's gap, as a share: radii and derivatives are not told apart where they differ by less. It is also the
share of the mass that is spread evenly first, for want of curvature: where eta is small, the weights of one point leave
out coordinates that the next one needs. Where it is not enough, as much as there is does."""

ROUNDED = 1e-14
"""Some tens of units of the last place: a residual, a divergence or a distance that small, of size one, is rounding."""

TINY = 1e-290
"""Smallest number that is divided by, or stands for zero in a logarithm: its inverse is still a number."""

ALIGNED_SUM = 256
"""Numbers from which on BLAS sums magnitudes from a boundary of memory on, and so rounds by where the array happens to
lie: a run would not repeat bit for bit."""

# What is certified

GAP_TOLERANCE = 1e-6
"""Largest gap of a certified answer, in its unit: a millionth of what there is to gain or lose."""

LOST_IN_ROUNDING = 0.1
"""Last places of a flow's largest multiplier, in ranges of the rewards, from which a bound is no more than rounding.
Values of 1e12, close to gamma = 1, are a hundredth of it, and their bounds were right in rational numbers on 5,000 hard
inputs; at 3e15 a wrong one was certified."""

BELOW_TOLERANCE = 1e-8
"""How far below the objective a bound may lie, in the gap's unit: rounding, and no proof of anything beyond it."""

FLOW_TOLERANCE = 1e-8
"""Largest 1-norm of what a point misses in the linear constraints, as a mass."""

MASS_TOLERANCE = 1e-9
"""Largest distance of a total mass from one: what a sum of 1e7 rounded numbers may be off."""

DIVERGENCE_TOLERANCE = 1e-7
"""Largest excess over a ball's radius, in nats."""

LARGEST_REPAIR = 1e-3
"""Share of an inner point that is too much to mix in where the excess over a ball is within its tolerance: the point
stays as it is."""

EVEN_ULPS = 4 * float(np.finfo(np.float64).eps)
"""Relative difference of two numbers computed from the same data that counts as none."""

AT_THE_TOP = 1e-4
"""How near the best coefficient, relative to those taken, an objective is that has nothing more to gain from it."""

BALL_LEEWAY = 3e-11
"""Excess over a ball, as a share of its radius, that is left as it is: what Newton's tolerance leaves."""

NEAR_START = 1e-16
"""Share of an inner point at which the way out of an infinite divergence starts, and to which the boundary is found:
next to nothing of double precision."""

TINY_SHARE = 1e-6
"""Share up to which chords of the convex excess find where the set begins: so near a point it is straight enough that
two of them do, where a root finder takes thirty products with a metric in single precision."""

REPAIRABLE = (1e-12, 1e-3)
"""1-norm of the residual that is worth mending, and beyond which a single step would not mend it."""

CLIPPED = (1e4, 1e6)
"""How far below the typical coefficient, in typical deviations, others count where a program out of proportion is
solved once more: what costs so much is hardly taken."""

SELF_TEST_ERROR = 0.15
"""Largest mean error of a fitted line of slope 2 on [-1, 1], and largest share of wrong signs."""


# What counts as meant in the data

SUM_TOLERANCE = 1e-8
"""How far from one a row of probabilities may sum: within it rows are renormalised, beyond it they are an error."""

SINGLE_SUM_TOLERANCE = 8 * float(np.finfo(np.float32).eps)
"""The same for rows in single precision, which cannot hold 1e-8: some units of the last place."""

SYMMETRY_TOLERANCE = 1e-8
"""Largest asymmetry of a dense F, relative to its largest entry."""

EXTREME_RANGE = 1e-5
"""Typical deviation, as a share of the range, below which the range says nothing of the ordinary coefficients: a range
of one would leave them with less than ten digits."""

COEFFICIENTS_SAMPLED = 64
"""Coefficients whose typical deviation is looked at first, to see whether that of all must be: most are in
proportion."""

SOFT_START = 1.0
"""Eta, in units of the ordinary rewards, of the soft values that horizons start from."""

GENTLE_LOSS = 5.0
"""Largest entry of the losses, in nats, up to which multipliers of zero are a good start of an online step."""

STALE_FILE = 3600.0
"""Seconds after which a temporary file that was not renamed is nobody's."""


# Divergences

CLOSE_EXPONENTS = 16.0
"""Range of exponents up to which all are taken relative to the largest: rounding then costs a few units of the last
place, and each group's own largest takes longer to find than the rest of a small softmax."""

LARGEST_EXPONENT = 700.0
"""Largest exponent whose exponential is finite, with room to spare."""

MOST_ITERATIONS = 200
"""Iterations of a search that takes some ten from wherever it starts: only rounding that has it go on meets the cap."""

NORMALISER_STEP = 1e-9
"""Relative Newton step for the normaliser after which the next would be rounding."""

FAR_NORMALISERS = 2.0
"""Factor between two normalisers beyond which they are halved on a logarithmic scale."""


# Descents of a dual

LARGEST_LOG_STEP = 2.0
"""Largest change of any log eta in one iteration."""

LARGEST_TRAVEL = 1.0
"""Largest KL(new || old) between the primal points of two iterations: the Hessian stays comparable within it.

Where there are several balls it is that of each simplex, otherwise of all coordinates together.
"""

SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant (Nocedal and Wright 2006, equation 3.4)."""

SHORTEST_STEP = 1e-10
"""Share of a step at which a line search gives up."""


# Newton's method

SLACK_SUSPECTED = 0.2
"""Fraction of the starting eta below which a ball is suspected to be slack, and the linear program looked at, which
costs some iterations."""

IMPROVED = 0.9
"""Factor by which the error must fall in a step that the dual's rounding hides: a fall by less is only more
rounding."""

LOOSEST_ALONG_RTOL = 0.1
"""Largest relative residual of a solve whose answer is but a direction to go in: of that for dv/d eta, whose error is
multiplied by eta's step, of a greedy policy's evaluation before the next improvement, of an eta that only tells which
rows bind, and of what a step owes to noise, which that noise leaves uncertain by more."""

NEAR_THE_CURVE = 0.1
"""1-norm of the residual below which, in penalty form, eta goes on towards the temperature."""

LARGEST_START_SPREAD = 5.0
"""Largest range of net / eta at a start, in nats: further apart, next to all mass is on one coordinate, and the Hessian
says nothing of the others."""

NEGLIGIBLE_ETA = 1e-7
"""Eta, in reward ranges, below which the linear program is looked at whatever the start."""

LARGEST_COOLING = 0.7
"""Largest change of log eta in one step towards a fixed temperature: further on, the curve's tangent says little."""

FAR_OUTSIDE = 10.0
"""Divergence of a warm start's point, in radii, beyond which a cold start is nearer."""

POINTS_AHEAD = 5
"""Radii whose solutions a path of radii is continued from: over fifty on FrozenLake 8x8 Newton takes 162 iterations
from the last one alone, 120 from two, 105 from three, 87 from five."""

LEAST_STARTING_ETA = 1e-10
"""Eta to start from where multipliers explain the objective completely, and nothing is left to weigh it against."""

NEWTON_RTOL = 1e-2
"""Relative residual of an iterative solve for a step far from the end, where the step itself is as rough."""

LEAST_ALONG_RTOL = 1e-5
"""Least relative residual of the solve for dv/d eta that is asked for: what eta's own step leaves is more."""

SAMPLES_TOLERANCE = 5e-11
"""Error at which a dual over samples ends: every iteration is a pass over all rows, and certificates allow 1e-8."""

SAMPLES_SLACK = 1e-2
"""As ``SLACK_SUSPECTED``, where the linear program over samples takes longer than a dozen iterations."""


# A path through several balls

FINAL_BARRIER = 2e-10
"""mu at the end where a simplex is left with next to no temperature: net / temperature is rounding beyond it."""

LEAST_BARRIER = 1e-13
"""mu at the end otherwise: the gap a ball, with an objective of range one."""

WARM_ENOUGH = 1e-4
"""Temperature of every simplex with which mu may fall to the least barrier."""

COLDEST_START = 1e-3
"""Least eta to start from, in ranges of the objective, where the multipliers explain it."""

PATH_FACTOR = 0.1
"""How mu falls from one point of the central path to the next."""

FASTER_FACTOR = 1e-3
"""The same from where one Newton step led to the path: where every ball binds, its eta hardly moves with mu."""

CENTRED = 0.01
"""Squared Newton decrement, in units of mu, at which a point counts as on the central path."""

CENTRED_LAST = 1e-10
"""The same at the end of the path: the excess of D_k over its radius goes like the decrement, not its square."""

STALLED_DECREASE = 1e-3
"""Fraction of the decrease a Newton step promises, below which it is lost in rounding (of net / eta, eta tiny)."""


# Other dual solvers

LEAST_GAP = 1e-20
"""Duality gap ``eta (epsilon - D)``, in units of the objective's range, below which filling the ball gains nothing: a
radius that the linear limit misses by rounding would have eta fall for ever."""

NEAR_SOFT_CURVE = 0.3
"""Largest error of the soft Bellman equations, in units of eta, at which eta moves with the values."""

FREE_MOVES = 30
"""Moves of eta after which it moves only on the curve of soft values itself, so that every move halves the bracket
around it."""

LEAST_SOFT_ETA = 1e-4
"""Smallest eta that soft policy iteration starts from, in units of the objective's range."""

PENALTY_CONVERGED = 1e-26
"""Squared Newton decrement at which a dense penalty problem is solved; the gap that is left is half of it, or
rounding."""

PENALTY_LAST_STEP = 1e-10
"""Squared decrement of a step that is the last: the next would be its square, and so is the gap that is left."""

PENALTY_QUADRATIC = 1e-8
"""Squared decrement below which it falls at every step, or else is rounding."""

DUAL_NOISE = 16 * float(np.finfo(np.float64).eps)
"""Relative difference of two dual values that may be rounding where these are sums of many terms: over balls, or
rows."""

FEW_ROWS_SHARE = 0.1
"""Fraction of the rows that is solved first, where no more are needed, and that a preconditioner is made of at most: a
tenth of all costs a tenth of what all do."""

LARGEST_FEW_ROWS_SHARE = 0.3
"""Fraction of the rows beyond which solving some of them first saves nothing."""

EFFECTIVE_PER_FEATURE = 10
"""Effective samples, about ``n_few exp(-epsilon)``, that rows drawn alike must hold for each feature."""

FIRST_RADIUS = 1.0
"""Radius, in nats, that rows drawn alike must hold for those of a larger ball to be drawn by the weights there."""

STRAYED = 1.0
"""Error of all rows, at the solution of a few drawn by weight, beyond which those lack a row that matters: over 10,000
to 200,000 rows it is .04 to .9 where they lack none, and 5 to 120 where they do."""

RADII_TO_SPARE = 3.0
"""How many times the smallest feasible radius of the few rows, about ``d / (2 n_few)``, the ball must be."""

FEWEST_VALUES = 400_000
"""Size of the feature matrix below which Newton's own passes cost less than the bookkeeping."""

FEW_ROWS_TOLERANCE = 1e-3
"""Error to which the dual of some rows is solved, for all rows to start from: their own sampling error is larger. With
1e-4 over 1e5 rows of 100 features as many passes at a radius of .5, and 16 for 18 at 4 along a trajectory; with 1e-2
over 2e5 trajectory rows of 300 at .5 the Hessian is taken twice, 21 passes for 11."""

FEW_ROWS_ITERATIONS = 16
"""Newton's iterations on the dual of some rows, beyond which all rows take their place: it takes 2 to 11. Along a
trajectory, 2e5 rows of 300 features at a radius of 2, some rows take 30 and never show what all of them do."""

HALVING_PATIENCE = 4
"""Quasi-Newton iterations in which the error must halve, and draws of rows by weight to find those that matter, or
else Newton's method takes over."""

REFRESHED = 0.1
"""Error at which the Hessian is taken over all rows; and anew, where ``HALVING_PATIENCE`` iterations gain less than
this factor each. A Gram matrix takes as long as 4 to 6 passes (50 to 300 features, one thread) and saves 15 of 26 over
2e5 trajectory rows of 300 features at a radius of .5."""

WORTH_GOING_ON = 0.1
"""Error below which Newton's method goes on from where a quasi-Newton search stalled."""

ETA_STRIDE = 3.0
"""Change of log eta between trials, where the ball's boundary is looked for: each is solved from the last."""

QUADRATIC_FARTHEST = 30.0
"""Change of log eta beyond which the targets of a quadratic step, 1e13 radii away, have lost the rows to rounding."""


# Decimal numbers

DIGITS = 70
"""Digits that a prize of 1e10 needs for its exponent, over an eta of 1e-16, to have those of a float, and those that
values of 1e12 need to be weighed against couplings of 1e-12: with 35 six of ten problems that have these fail."""

MOST_MORE_DIGITS = 200
"""Further digits beyond which arithmetic gets slow."""

DECIMAL_COLDEST = Decimal("1e-16")
"""Eta, in units of the objective, at which a ball counts as slack where decimal numbers are used."""

DECIMAL_HOTTEST = Decimal("1e30")
"""Eta, in the same units, at which a ball counts as one of a single point."""

DECIMAL_COOLING = Decimal(8)
"""Factor by which eta is lowered at a time on the way to zero, at most: as far as the tangent of the curve leads."""

LEAST_DECIMAL_COOLING = Decimal("1.05")
"""The same at least: where the tangent leads less far, a step that is no good is taken all the same."""

SHORTEST_DECIMAL_STEP = Decimal("1e-30")
"""Share of a step in decimal numbers that is not worth taking."""

DECIMAL_DECREMENT = Decimal("1e-26")
"""Newton decrement, in units of eta, at which a point is the minimiser to all the digits of a float."""

DECIMAL_RESIDUAL = Decimal("1e-22")
"""1-norm of what a point in decimal numbers may miss in the rows: a relative 1e-10 of the mass that gamma = 1 - 1e-12
moves."""

DECIMAL_WORK = 60_000
"""Evaluations of the dual times coordinates beyond which a search in decimal numbers is given up: some seconds. Few of
them go beyond 11 000; the jackpot of contexts in the tests is certified after more than 48 000, in four seconds."""

DECIMAL_TRAVEL = Decimal(5)
"""Largest Bregman divergence of the point of a step from that before it: farther the quadratic model says nothing."""


# Solvers of other libraries

CONIC_UNITS = (1.0, 10.0)
"""Units of the objective that a conic solver is offered, in multiples of the starting eta; then the reward range
itself."""

LEAST_ALIVE = 1e-7
"""Weight, in a conic solver's point, from which a sample counts as one that the best weights use."""

ROUND_ITERATIONS = 250
"""Iterations of one such call: whitening anew at the point reached, or another barrier, does more than going on."""

SCIPY_COOLING = 3.0
"""Factor between the temperatures of two rounds of a first-order method in penalty form."""

PRIMAL_GAP = 1e-8
"""Gap, as a share of the objective's range, that ends iterations on the primal: a hundredth of what is certified."""

BARRIERS = ((1e-2, 0.1, 1.0), (0.1, 0.1, 1.0), (1e-6, 1e-5, 0.1))
"""Barrier, its tolerance and trust radius that trust-constr starts with, tried in turn on the primal, each from the
middle of the start and where the last one stopped, until the gap says that it is enough: a barrier much smaller lets
coordinates run into their bounds, and stay there. Duals take the last: bounds hardly ever bind there, and a small
radius keeps eta from running to zero."""

JOINT_BARRIERS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-9)
"""mu of each call, from where the one before ended. The last leaves a gap of 1e-9 a ball; without the first ones nine
of forty random horizons stay uncertified, and one with them."""

# Which computation takes less time

CONIC_COORDINATES = 2_000
"""Coordinates up to which a conic solver takes about a second."""

CONIC_ENTRIES = 100_000
"""Entries of dense rows up to which a conic solver takes about a second."""

DECIMAL_COORDINATES = 300
"""Coordinates up to which a Newton step in decimal numbers takes some 30 ms."""

DECIMAL_PRODUCTS = 50_000
"""Products in a Hessian up to which a Newton step in decimal numbers takes some 30 ms."""

DENSE_ROWS = 400
"""Rows up to which a dense Cholesky factorisation is the fastest."""

FACTORED_ROWS = 20_000
"""Rows up to which a sparse factorisation takes no longer than conjugate gradient where some rows are thin."""

KRYLOV_ITERATIONS = 1_000
"""Iterations of one iterative solve at most. Conjugate gradient's is then taken as a step: in grids and Garnets of
20,000 to 1e6 states it takes 308 at most, and where it takes more, at gamma = 1 - 1e-6, 5,000 help no more. BiCGSTAB's
residual is computed anew, or a factorisation takes over: a grid of 200 by 200 at gamma = 1 - 1e-5 takes 1.2 s with
1,000, and with 500 mostly 1.4 s and a factorisation."""

TIE_BREAK = 1e-5
"""By how much, at most, couplings are scaled at random: equal ones would all prefer the same side. On a grid of 50 by
50 with a cornered reference Newton takes 8 iterations with it, 11 and a factorisation with a tenth of it."""

LARGEST_PRODUCT = 4.5
"""Products that ``A diag(w) A'`` may take to multiply out, in units of A's non-zeros, to be applied faster so."""

THIN_SHARE = 1e-2
"""Share of the mass spread evenly where rows are thin, in units of the squared error: the last steps are Newton's. On a
grid of 50 by 50 with a cornered reference conjugate gradient takes 203 products with it; with a tenth, or ten times as
much, it stalls and a factorisation has to end it."""

STRONG_COUPLING = 0.25
"""Share of a row's strongest coupling below which another is not matched along."""

HANDSHAKES = 4
"""Rounds of a matching: each pairs the rows that prefer each other among those still alone."""

COARSENING_STALLED = 0.7
"""Share of aggregates left after a level above which coarsening further is of no use."""

STALE_LEVELS = 0.1
"""Mean relative change of the diagonal from which the coarse levels are computed anew."""

ROWS_PER_FEATURE = 16
"""Rows for each feature from which a leverage is estimated; where a tenth of all are fewer, systems are made of all."""

SLOW_SYSTEM = 6
"""Products that conjugate gradient may take over the right-hand sides of one system; beyond, the next ones are made of
all rows. A Gram matrix takes as long as 5 to 6.5 products (50 to 300 features, one thread). Over 2e5 trajectory rows of
300 features at a radius of 2, 11.9 s for 20.9 s with no such end."""

MOST_ROWS_PER_FEATURE = 200
"""Rows of a preconditioner for each feature beyond which more gain little: the condition number is then 1.3."""

LEVERAGE_PROJECTIONS = 8
"""Random projections from which the leverage of the rows is estimated, each half a pass. Over 20,000 rows of 40
features of Student's t distribution with two degrees of freedom a solve spends 6.0 Grams with eight, 6.5 with four, 7.0
with two and 6.1 with 16, in the mean of twenty."""

MOST_TERMS = 500_000
"""Products of two entries of a column up to which ``A diag(w) A'`` is one product with all of them, made once."""

FEW_DENSE_ROWS = 32
"""Rows of a dense table up to which two dense products take less time than that."""

CHUNK_BYTES = 1 << 20
"""Rows are taken in chunks of about this size, which stay in the cache between a pass's two products."""

PASSES_PER_GRAM = 20
"""Passes counted as one Gram matrix: its arithmetic is that of a quarter of a pass for each feature. On one thread it
takes no longer than 4 to 6 passes do, which wait for memory."""

CLOSURE_STATES = 64
"""Largest dense chain whose classes are found by squaring its graph; beyond, a search is faster."""

FEW_ENTRIES = 20_000
"""Entries of a matrix up to which dense products take less time than a sparse one's bookkeeping (some 20 us)."""

DENSE_ENTRIES = 200_000
"""Largest table of transitions that a small MDP keeps densely, beside the sparse one."""

UNTHREADED_STATES = 64
"""States up to which BLAS keeps to one thread by itself."""

REMEMBERED = 8
"""Tables that are remembered, those used last: of a loop over a handful of problems, each finds its own again."""

FEW_AHEAD = 40_000
"""Entries of a horizon's transitions up to which one dense product takes less time than a sparse one a step."""

CUBED = 1_000
"""Size up to which a dense system is factorised, or its eigenvalues taken, where an iteration is what else there is."""


# Chains and MDPs

DENSE_STATES = 300
"""Largest number of states that are eliminated densely, without an ordering being looked for."""

ELIMINATION_WORK = 4e9
"""Most multiplications that an elimination without subtraction may take: some seconds."""

TRUSTED_TIME = 1e7
"""Longest expected stay, in steps, at which an ordinary factorisation is trusted: it keeps nine digits there."""

DIRECT_STATES = 2_000
"""Largest number of states for which a sparse factorisation is taken without trying an iteration first."""

NEARLY_UNDISCOUNTED = 1e-6
"""``1 - gamma`` below which small chains are eliminated without subtraction: the discount is all that is left."""

COMMON_LEVEL = 1e3
"""Common part of all values, in units of their differences, from which it is kept apart."""

MOST_ROUNDS = 12
"""Calls of an inner method, each from where the one before ended, before something else is tried."""

RARE_ANCHOR = 0.1
"""Mass of an anchor, relative to the likeliest state, up to which it counts as rare."""

LEAST_DISCOUNTING = 1e-3
"""``1 - gamma`` at least, where it multiplies the rounding of values: a policy settles before that takes effect."""

NEAR_OPTIMUM = 1e-7
"""Range of the Bellman error, in units of the rewards, at which a policy that changes no more is evaluated exactly."""

FAR_SIGHTED = 1 - 1e-5
"""Discount whose optimal policy average reward starts from: nearly always it is optimal there too, and no chain on the
way to it takes so long to leave a class that its bias overflows. Of two prizes at the ends of a walk of 1,000 states
the farther is found with one policy; from ``LESS_FAR_SIGHTED`` it takes 13, ten times as long."""

LESS_FAR_SIGHTED = 0.999
"""The discount that average reward starts from in large MDPs, solved iteratively, which takes the longer the closer to
one it is."""

NARROW_WORK = 5e7
"""States times bandwidth squared up to which a large MDP is solved by factorisations: those of a line cost nothing."""

FIRST_SWEEPS = 16
"""Sweeps of value iteration before the first policy of a small MDP is evaluated exactly. Policies without them and with
16: FrozenLake 8x8 6 and 4, Garnet of 200 states 4 and 1, Taxi 6 and 2, a grid of 1,024 7 and 5; about half the time."""

SWEEPS = (5, 300)
"""Policies after which news of rewards is passed on by sweeps too, and how many at most: each carries it one state
further."""

SWEEPS_BETWEEN = (3, 40)
"""Sweeps of value iteration after each inexact evaluation, at first and once rewards must be far away: news of them
travels so much further with each policy. A grid of 120 by 120 takes 22 policies, 29 with half as many and 17 with
twice."""

FAR_AWAY = 12
"""Changes of policy after which rewards must be far away, and more sweeps pay."""

HUGE = 1e100
"""Numbers up to here, and down to their inverses, are taken as they are: the squares of both are numbers still."""

CONSISTENT = 1e-11
"""Largest 1-norm of the residual for which a reference counts as feasible itself: a thousandth of what is certified."""

VALUES_SHARE = 1e-3
"""Share of the median value whose rounding counts as that of an advantage."""

ROUGH_RTOL = 1e-3
"""Relative residual of a value that solvers start from, or of a step whose equations are not linear: what those leave
is more."""


# Derivatives of a solution

KINKED = 0.35
"""Share of a second difference that half the step may leave: a quarter of a smooth one is left, half of a kink's."""

# Samples and their features

USUAL_RADIUS = 0.5
"""Radius of a ball around samples where none is given, in nats: that of van Hoof, Peters and Neumann (2015)."""

EVEN_FEATURES = 1e-4
"""Least singular value, relative to the largest, for which the features are used as they are."""

SMALL_ESS = 2.0
"""Effective sample size below which a policy fitted to the weights follows one or two samples."""

LONGEST_HORIZON = 100
"""Largest ``1 / (1 - gamma)`` where gamma is taken from the batch: what is further ahead is mostly noise."""

MEDIAN_SAMPLES = 1_000
"""Samples from which a median distance is taken."""

WAVE_WIDTHS = (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
"""Widths tried, in standard deviations of the states, for two dimensions: in proportion to the root of their number."""

FIRST_WIDTH = 4
"""Place of the width tried first; the search goes downhill from there."""

MOST_WAVES = 250
"""Waves at most, and an eighth of the transitions: the matches that samples have to bear."""

FEWEST_WAVES = 20
"""Waves at least, however few the transitions: fewer see next to nothing of a state space."""

MOST_SQUARED = 12
"""State dimensions up to which squares and products are tried beside waves."""

MOST_DISCRETE_VALUES = 500
"""Distinct discrete states up to which each has a feature of its own."""

MOST_COLUMNS = 30
"""State dimensions above which principal components stand for them, as for images."""

MOST_COMPONENTS = 10
"""Principal components taken at most: waves over more dimensions see little of each."""

HALF_TURN = math.pi * (1 + 1e-6)
"""Largest size of an angle that is kept within half a turn either way, rounding in single precision included."""

SELECTION_ROWS = 3_000
"""Transitions on which a choice rests at most, in whole episodes."""

SELECTION_FOLDS = 3
"""Parts of the episodes that a width is judged on in turn: each costs a solve."""

VALUE_RIDGE = 0.0003
"""Ridge on value features, in units of ``(1 - gamma)^2`` over the rewards' deviation: values are rewards over ``1 -
gamma``."""


# Learning

SLACK_ETA = 1e-3
"""Multiplier of the ball, in spreads of the rewards, below which it counts as slack where a ridge softens the match."""

UNMATCHED = 1e-2
"""1-norm of what the weights may miss of features of root mean square one, for an update to take them."""

LARGEST_OFFSET = 0.2
"""Share of the predicted gain that may come from what is no flow, before it is a warning."""

CHANCE = 3.0
"""Standard errors of what is no flow that are taken for chance: a run asks at each of its updates."""

REFUTED_IN_A_ROW = 3
"""Promises refuted in a row from which a run warns."""

PROMISE_KEPT = 0.5
"""Share of a promise that has to be reached, but for two standard errors, for it not to be refuted."""

SIDE_BY_SIDE = 256
"""Episodes of a batched environment that are stepped at once, and by one worker."""

AT_ONCE = 16
"""Episodes stepped at once where a number of steps is asked for: those beyond it are thrown away."""

EPISODES_A_TASK = 8
"""Episodes of an environment stepped singly that a worker takes at a time; they are seeded one by one."""

LONGEST_EPISODE = 10_000
"""Steps after which an episode is cut off when neither it nor the environment ends before."""

LONGEST_HOLD = 64
"""Steps that uniform actions are held for at most, where shorter ones taught nothing."""

FARTHER = 5.0
"""Times by which states of a good policy are taken to spread wider than those of first episodes that all end in falls.
On Hopper they come to spread up to eight times wider. TRPO returns there after 150,000 steps 2059, 1738, 1219 (seeds
0 to 2) at 5; 906, 956 at 2.5; 943, 1802 at 10; 803 at 1. Swimmer and Pendulum, without falls, learn faster at 1."""

DEEPEST_SETTING = 6
"""Levels of objects within objects that a description of settings looks into: objects may hold each other."""

INSIDE = 0.98
"""Share that the next trial of a line search takes of the step that a quadratic through the last trial's divergence
allows."""

ADAM = (0.9, 0.999, 1e-8)
"""Decay of the two moments, and the floor under the second: the constants of Kingma and Ba (2015)."""

LATEST_SHARE = 0.1
"""Share of the latest batch, at least, in the running moments of the targets, which drift with the policy."""

COLLINEAR_RIDGE = 1e-3
"""Penalty of gains whose columns may be collinear, as squares and products are, or a value for each state beside an
intercept: a thousandth of a sample's worth splits them."""

PRECONDITIONED_FISHER_ROWS = 300
"""Smaller side of the Fisher factors up to which their matrix is factorised where the policy has a preconditioner, with
which conjugate gradients take few products."""

FISHER_DAMPING = 1e-3
"""Share of the Fisher matrix's diagonal that is added to it where it is factorised."""

FISHER_PRODUCT_DAMPING = 0.1
"""What is added to the Fisher matrix where products are taken: directions of little curvature, of which a batch says
little, count less. With a tenth of it, and inputs as they were before ``FARTHER``, TRPO had 342 on Hopper after 100,000
steps, and 803 after 150,000 with it."""

LINE_SEARCH_GAP = 0.05
"""Gap, as a share of the gain, to which a line search wants its step: it tries lengths that differ by more."""
