"""What commands change in their process is set back after each test."""

import logging

import jax
import pytest


@pytest.fixture(autouse=True)
def process_state(monkeypatch, tmp_path):
  """Leaves the log and the cache of compilations as they were."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  log = logging.getLogger('giajax')
  old = log.handlers, log.level, log.propagate
  cache = jax.config.jax_compilation_cache_dir
  yield
  log.handlers, log.level, log.propagate = old
  jax.config.update('jax_compilation_cache_dir', cache)
