"""Launchers, which run a plan somewhere, and the benchmark."""
