"""Kernels for CPU: their source, what they are made of, how Numba compiles and the pool runs them."""
