"""The linear systems that Newton's method solves: dense, sparse, by blocks, by conjugate gradient, from samples."""
