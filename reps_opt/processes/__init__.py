"""Finite Markov decision processes: the model, its chains and graph, exact values and optimal policies."""
