"""Speed beside peers: ``python -m tests.benchmarks`` runs the whole table, each module one part of it."""
