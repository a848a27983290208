"""From a config to results: plan, run, resume, evaluate."""
