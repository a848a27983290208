"""Numerical primitives, independent of attacks: convolution, moments."""
