"""Conjugate gradient counts every product that it makes, that of a guess among them."""

from __future__ import annotations

import numpy as np
import pytest

from reps_opt.conjugate_gradient import conjugate_gradient

MATRIX = np.diag(np.arange(1.0, 9.0)) + 0.1
WANTED = np.arange(8.0, 0.0, -1.0)


@pytest.mark.parametrize("guess", [None, np.zeros(8), np.linalg.solve(MATRIX, WANTED) + 1e-3, np.full(8, 1e3)])
def test_every_product_is_counted(guess):
    made = []

    def product(v):
        made.append(v.copy())
        return MATRIX @ v

    found = conjugate_gradient(product, WANTED, guess=guess)
    assert found.products == len(made) >= 8
    np.testing.assert_allclose(found.solution, np.linalg.solve(MATRIX, WANTED), rtol=1e-8)
