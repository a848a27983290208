"""Experiments, one per file; `get_config('runlocal')` returns a small one."""
