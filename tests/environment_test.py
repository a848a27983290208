"""Tests of giajax.environment: the variables that JAX reads."""

import os
import subprocess
import sys


def _run(text, variables):
  return subprocess.run(
    [sys.executable, '-c', text],
    env=variables,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_variables_that_jax_refuses_are_one_line():
  variables = {**os.environ, 'JAX_NUM_CPU_DEVICES': 'x'}
  for command in ('giajax.main', 'launch.local'):
    code = f"import runpy; runpy.run_module({command!r}, run_name='__main__')"
    done = _run(code, variables)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    words = line.partition(': ')[2]
    assert words.startswith('Expected environment variables that JAX takes; ')
  # A library leaves it to its program.
  caught = 'import giajax\ntry: giajax.World\nexcept ValueError: print()'
  done = _run(caught, variables)
  assert (done.returncode, done.stderr) == (0, '')
