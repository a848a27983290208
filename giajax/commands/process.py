"""How the process of a command uses the machine, and what it says."""

import gc
import logging
import os
import pathlib

import jax

STOPPED = 85  # the exit code after a signal: everything is saved
_log = logging.getLogger('giajax')


def cache_compilations() -> None:
  """Keeps compiled programs between runs, where the user named no folder."""
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    home = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    folder = pathlib.Path(home).expanduser() / 'giajax' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', str(folder))


def use_machine() -> None:
  """Settles how this process uses cores and memory, before JAX starts.

  A device of each CPU core, where the user did not say otherwise: independent
  restarts keep all cores busy even where one is too small to be split. And
  cycles of garbage are collected rarely: a trace makes millions of objects
  that stay, and looking through them again and again takes much of it.
  """
  gc.set_threshold(1_000_000)

  if 'JAX_NUM_CPU_DEVICES' not in os.environ:
    jax.config.update('jax_num_cpu_devices', len(os.sched_getaffinity(0)))


def log_to_stderr() -> None:
  """Writes the package's log to standard error."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter('giajax: %(message)s'))
  _log.handlers = [handler]
  _log.setLevel(logging.INFO)
  _log.propagate = False
