"""What several checks share: looking at weights, and trying the probe."""
