"""Mutants that no test can tell from the original, by the names that ``python -m tests.mutate`` gives them, and why."""

EQUIVALENT: dict[str, str] = {}
