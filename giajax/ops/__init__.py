"""Numerical primitives that know nothing of attacks: convolution, moments."""
