"""Kernels for GPUs: their source, what they are made of, how Triton compiles and runs them."""
