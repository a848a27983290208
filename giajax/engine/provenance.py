"""Where results come from: config, inputs, versions and device."""

from collections.abc import Mapping
import datetime
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import giajax
from giajax.data import base as data
from giajax.engine import experiment
from giajax.engine import schema


def named(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a resolved config, the hash that names it, and the precision."""
  resolved = schema.resolve(config)
  return {
    'config': resolved,
    'hash': schema.config_hash(resolved),
    'precision': str(jnp.result_type(float)),
  }


def meta(
  whole: experiment.Experiment, card: str, command: str
) -> dict[str, Any]:
  """Returns what `config.json` says.

  Args:
    whole: the experiment.
    card: the experiment in words.
    command: how to run it again.
  """
  setup = whole.cohorts[0].setup
  dataset = setup.dataset
  return {
    'config': whole.config,
    'hash': whole.config_hash,
    'precision': str(jnp.result_type(float)),
    'inputs': dict(whole.inputs),
    'card': card,
    'command': command,
    'versions': versions(),
    'device': device(),
    'threat': dict(whole.threat),
    'class_names': list(dataset.class_names),
    'data_note': dataset.note,
    **_scale(dataset),
    'steady': {
      str(number): dict(zip(('begin', 'end'), cohort.setup.attack.steady))
      for number, cohort in enumerate(whole.cohorts)
    },
    'source': {**setup.source.facts, 'checks': [*whole.checks]}
    if setup.source.facts
    else {},
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }


def _scale(dataset: data.Dataset) -> dict[str, Any]:
  """Returns the units of the inputs, if they have others than [0, 1]."""
  if dataset.scale is None:
    return {}
  return {'scale': {n: [*v] for n, v in dataset.scale._asdict().items()}}


def device() -> str:
  """Returns the kind of the devices and their number."""
  return f'{jax.devices()[0].device_kind} x{jax.device_count()}'


def versions() -> dict[str, str]:
  """Returns the versions that a result depends on."""
  return {
    'giajax': giajax.__version__,
    'jax': jax.__version__,
    'numpy': np.__version__,
    'python': platform.python_version(),
  }
