"""Experiments, one a file; `get_config(arg)` with `arg='runlocal'` is small."""
