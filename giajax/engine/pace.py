"""How long an experiment will take, measured on its first update."""

from collections.abc import Mapping
import time
from typing import Any

import jax
import numpy as np

from giajax.engine import arguments
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import mesh
from giajax.engine import plan
from giajax.engine import program as programs
from giajax.engine import schema
from giajax.engine import sweep

_STEPS = 4  # that are measured, behind the first one


def check_size(config: Mapping[str, Any]) -> None:
  """Checks that a config attacks no more updates than it allows.

  Raises:
    ValueError: it does, and how long they would take; or another mistake.
  """
  resolved, updates = schema.resolve(config), sweep.size(config)
  if updates <= resolved['run']['most_updates']:
    return
  hours = updates * seconds(sweep.first(config).config) / 3600
  time = f', about {hours:,.1f} hours of this machine for the steps alone'
  raise sweep.too_many(resolved, updates, time)


def seconds(config: Mapping[str, Any]) -> float:
  """Returns the seconds that one update of a setting takes on this machine.

  Its first steps are run, as `launch.benchmark` does. Compilation, scoring and
  the report are not counted.

  Args:
    config: a config of one point.

  Raises:
    ValueError: a mistake in the config.
  """
  one = {**schema.resolve(config), 'study': {}}
  one['cases'] = {**one['cases'], 'count': 1}
  whole = build.experiment({**one, 'noise_controls': 0})
  (cohort,) = plan.cohorts(whole)
  part, setup = plan.Part(cohort, 0, 1), cohort.setup
  observe = exchange.observer(setup, exchange.player(setup))
  where = arguments.layout(setup, 1)
  observed = observe([setup.source.item(setup, part.work[0].case)])
  inputs = arguments.of_part(part, observed, where)
  jitted = programs.program(setup.attack, where, setup.products)
  program = programs.compiled(jitted, *inputs)
  carry = jax.block_until_ready(program.init(*inputs))
  if program.chunk is None:
    began = time.perf_counter()
    jax.block_until_ready(program.read(*inputs[:3], carry))
    return time.perf_counter() - began
  steps = min(_STEPS, setup.attack.num_steps)
  for first, last in ((0, 1), (0, steps)):
    began = time.perf_counter()
    bounds = mesh.put((np.int32(first), np.int32(last)), where, mesh.P())
    carry = jax.block_until_ready(program.chunk(*inputs, carry, *bounds))
    spent = time.perf_counter() - began
  return spent / steps * setup.attack.num_steps
