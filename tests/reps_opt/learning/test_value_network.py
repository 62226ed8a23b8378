"""The network of state values takes the steps that another library's Adam takes."""

from __future__ import annotations

import numpy as np
import pytest

from reps_opt.learning.value_network import ValueNetwork


def test_its_steps_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    states = rng.normal(size=(64, 2))
    targets = states @ [1.0, -2.0] + 0.1 * rng.normal(size=64)
    network = ValueNetwork(hidden=(), epochs=300, batch_size=64, learning_rate=0.02)
    memory = network.learn({}, states, targets)

    standard = (states - states.mean(axis=0)) / states.std(axis=0)
    inputs = torch.tensor(np.column_stack([standard, np.ones(64)]))
    wanted = torch.tensor((targets - targets.mean()) / targets.std())
    params = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([params], lr=0.02)
    for _ in range(300):
        adam.zero_grad()
        (0.5 * ((inputs @ params - wanted) ** 2).mean()).backward()
        adam.step()
    np.testing.assert_allclose(memory["params"], params.detach().numpy(), atol=1e-6)
