"""Compiled programs are shared by the tests of the engine."""

import jax
import pytest


@pytest.fixture(scope='session', autouse=True)
def compiled(tmp_path_factory):
  """Keeps them for a session, in this process and in those it starts."""
  folder = str(tmp_path_factory.getbasetemp() / 'compiled')
  patch = pytest.MonkeyPatch()
  patch.setenv('JAX_COMPILATION_CACHE_DIR', folder)
  old = jax.config.jax_persistent_cache_min_compile_time_secs
  jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  yield
  jax.config.update('jax_compilation_cache_dir', None)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', old)
  patch.undo()
