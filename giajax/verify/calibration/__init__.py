"""How the thresholds of the checks were set, and what they detect."""
