"""Numerical kernels: pure functions of tensors, the eager definition first."""
