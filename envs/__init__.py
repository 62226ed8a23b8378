"""Environments: small Markov decision processes and continuous control tasks."""
