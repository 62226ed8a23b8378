"""Kakade's plateau: the plain gradient first learns to stay where it is, and then hardly moves; REPS and NPG do.

Two states; staying pays 1 in state 0, where the start is four fifths of the time, and 2 in state 1, which the plain
gradient weighs by its visits: fewer and fewer. Its flow is integrated in the clock ``u dt``, u the chance of leaving
state 0, in which nothing is stiff.
"""

import math

import numpy as np
import typer
from drawing import figure_in
from scipy.integrate import solve_ivp

import envs
from reps_opt import REPS, ExactNaturalGradient, ExactTRPO, History, iterate
from reps_opt.plotting import COLOURS, LINES, MARKERS

STAY, THRESHOLD, EPSILON = (0.76, 0.04), 1.9, 0.1


def plain(x: float, y: float) -> tuple[float, float, float]:
    """Mean reward, and its gradient over u in the differences x, y of the logits (stay less leave) of the states."""
    a, u, b, v = (1 / (1 + math.exp(z)) for z in (-x, x, -y, y))  # stay and leave, in state 0 and in state 1
    ahead = (2 * b - a) / (u + v)  # by how much state 1 is better, in the long run
    # both logits of a state move, by +- the gradient d(s) pi(stay) pi(leave) (A(stay) - A(leave)): hence the twos
    return (v * a + 2 * u * b) / (u + v), 2 * v * a * (1 - ahead) / (u + v), 2 * b * v * (2 + ahead) / (u + v)


def plain_steps(n: int, step_size: float = 1.0) -> tuple[float, float]:
    """Logit differences after n steps of the plain gradient, one by one."""
    x, y = (math.log(p / (1 - p)) for p in STAY)
    for _ in range(n):
        rate, (_, along_x, along_y) = step_size / (1 + math.exp(x)), plain(x, y)
        x, y = x + rate * along_x, y + rate * along_y
    return x, y


def plain_flow() -> tuple[np.ndarray, np.ndarray]:
    """Steps (of size one, in the limit of small ones) and mean reward, until it passes the threshold."""

    def arrived(_: float, z: np.ndarray) -> float:
        return plain(z[0], z[1])[0] - THRESHOLD

    arrived.terminal = True
    found = solve_ivp(
        lambda _, z: [*plain(z[0], z[1])[1:], 1 + math.exp(z[0])],  # dt = d clock / u
        (0, 1e3), [*plain_steps(0), 0.0], rtol=1e-9, atol=1e-9, max_step=0.1, events=arrived
    )  # fmt: skip
    return found.y[2], np.array([plain(x, y)[0] for x, y in found.y[:2].T])


def main(n_updates: int = 12, n_plain: int = 1_000_000, plot: str | None = None) -> dict[str, float]:
    """Print and draw how many updates each method takes to pass the threshold; returns them."""
    mdp, start = envs.two_state(gamma=1.0), np.array([[STAY[0], 1 - STAY[0]], [1 - STAY[1], STAY[1]]])
    updates = {
        "REPS, epsilon .1": lambda policy: REPS(mdp, mdp.occupancy(policy), EPSILON),
        "exact TRPO, epsilon .1": lambda policy: ExactTRPO(mdp, policy, EPSILON),
        "natural gradient, step 1": lambda policy: ExactNaturalGradient(mdp, policy, step_size=1.0),
    }
    needed, curves = {}, {}
    for name, update in updates.items():
        returns = curves[name] = History(iterate(mdp, start, update, n_updates)).returns
        needed[name] = float(np.argmax(returns > THRESHOLD)) if returns.max() > THRESHOLD else math.inf
        print(f"{name:25s} passes {THRESHOLD} after {needed[name]:.0f} updates")
    (steps, means), (x, y) = plain_flow(), plain_steps(n_plain)
    print(f"plain gradient, step 1    J {plain(x, y)[0]:.8f} after {n_plain}; its flow passes after {steps[-1]:.1e}")
    if plot:
        with figure_in(plot, 1, 2, dpi=150, figsize=(11, 3.8), sharey=True) as (left, right):
            for k, (name, returns) in enumerate(curves.items()):
                left.plot(returns, color=COLOURS[k], ls=LINES[k], marker=MARKERS[k], ms=3, label=name)
            right.semilogx(steps[1:], means[1:], color=COLOURS[3], label="plain gradient (flow)")
            right.plot(n_plain, plain(x, y)[0], "kx", label=f"after {n_plain} real steps")
            left.set(xlabel="updates", ylabel="mean reward", title="with a divergence")
            right.set(xlabel="steps of size one", title="along the plain gradient", xlim=(1, None))
    return {**needed, "plain gradient, step 1": steps[-1]}


if __name__ == "__main__":
    typer.run(main)
