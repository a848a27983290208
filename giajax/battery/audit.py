"""An audit of one update that a server received from a client."""

from collections.abc import Callable, Mapping, Sequence
import logging
import math
import os
import pathlib
from typing import Any

import numpy as np

from giajax import archives
from giajax import capture as captures
from giajax import paths
from giajax.battery import battery
from giajax.engine import build
from giajax.engine import hooks as hook_library
from giajax.engine import join
from giajax.engine import run as engine
from giajax.engine import schema
from giajax.results import records

# What a capture may say of a client.
_ABOUT = (
  *('client', 'form', 'examples', 'input_shape', 'num_classes'),
  *('task', 'low', 'high'),
)
_MAY_LACK = ('form', 'examples', 'task', 'low', 'high')
_log = logging.getLogger('giajax')


def audit(
  config: Mapping[str, Any],
  workdir: str | os.PathLike[str],
  *,
  minutes: float = 10.0,
  only: Sequence[str] = (),
  hooks: Sequence[hook_library.Hook] = (),
  command: str = '',
  finish: Callable[[pathlib.Path], Any] = lambda folder: None,
) -> join.Rows:
  """Tries the attacks of the battery that fit a received update.

  Args:
    config: what `config_of` returned, or the like.
    workdir: the folder for the results. The same call continues what was
      stopped, with the steps that were chosen then.
    minutes: the time that all of it may take, about. From it, an attempt of a
      few steps decides how many steps each timed attack takes: all of them the
      same, and at least `battery.LEAST_STEPS`. Closed forms are not in it.
    only: names in `BATTERY`; all of them if empty.
    hooks: as for `run.audit`, like `command` and `finish`.
    command: how to run it again.
    finish: called with the workdir when its results are complete.

  Returns:
    The rows of `results.jsonl`, one for each attack and belief.

  Raises:
    ValueError: a user's mistake, in one line.
    Interrupted: SIGTERM or SIGINT arrived; everything is saved.
  """
  if not 0 < minutes < math.inf:
    raise ValueError(
      f'Expected minutes above 0; got minutes={minutes}; give it some time'
    )
  folder = paths.expanded(workdir, 'workdir')
  steps = _earlier_steps(folder)
  if steps is not None:
    _log.info('continuing with the %d steps that were chosen before', steps)
  grounds = build.Grounds()
  plan = battery.plan(config, minutes, only, steps, grounds)
  return engine.audit(
    plan.config,
    folder,
    hooks=hooks,
    card=_card(plan),
    command=command,
    finish=finish,
    grounds=grounds,
  )


def config_of(
  *,
  model: Mapping[str, Any],
  capture: str = '',
  sent: str = '',
  received: str = '',
  form: str = '',
  truth: str = '',
  client: Mapping[str, Any] | None = None,
  examples: int | None = None,
  input_shape: Sequence[int] = (),
  num_classes: int = 0,
  task: Mapping[str, Any] | None = None,
  low: Sequence[float] = (),
  high: Sequence[float] = (),
  trained: bool | None = None,
  freeze: Sequence[str] = (),
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the config of a received update.

  Args:
    model: the entry of the config's model: a name and arguments.
    capture: a file of `giajax.capture`; what follows is taken from there where
      it is not given.
    sent: the file of the weights that the client started from.
    received: the file of what came back.
    form: see `captured.captured`.
    truth: see `captured.captured`.
    client: the entry of the config's client: a name and arguments.
    examples: the number of images behind the update; None takes that of
      `truth`, or else the client's batch size.
    input_shape: (H, W, C) of the client's images, or (F,) of rows of a table.
    num_classes: the number of classes K, or of outputs.
    task: the entry of the config's task: a name and arguments; None for
      classification.
    low: the values that become 0, of each channel or one for all; 0 if empty.
    high: the values that become 1; 1 if empty.
    trained: whether the weights that were sent are trained, None where nobody
      knows.
    freeze: patterns of the parameters that the client does not train.
    seed: the seed of all draws.

  Raises:
    ValueError: something is neither given nor in the capture, or a file that
      cannot be read.
  """
  about: dict[str, Any] = dict.fromkeys(_ABOUT)
  if capture:
    found = captures.load(paths.expanded(capture, 'capture'))
    about = {key: found.about.get(key) for key in _ABOUT}
    sent, received = sent or capture, received or capture
    truth = truth or (capture if found.truth else '')
  given = {
    'client': client,
    'form': form,
    'examples': examples,
    'input_shape': [*input_shape],
    'num_classes': num_classes,
    'task': task,
    'low': [*low],
    'high': [*high],
  }
  about |= {key: value for key, value in given.items() if value}
  for key, value in {'sent': sent, 'received': received, **about}.items():
    if not value and key not in _MAY_LACK:
      raise ValueError(
        f'Expected {key} of a received update; got {key}={value!r}; give it, '
        'or a capture that has it'
      )
  own = about['client']
  if not isinstance(own, Mapping) or not isinstance(own.get('name'), str):
    raise ValueError(
      "Expected client as a dict with the name of a row, such as {'name': "
      f"'fedavg'}}; got client={own!r}; correct it"
    )
  source: dict[str, Any] = {'name': 'captured', 'received': received}
  source |= {'form': about.get('form') or '', 'truth': truth}
  return schema.resolve(
    {
      'seed': seed,
      'dataset': {
        'name': 'unknown',
        'image_shape': about['input_shape'],
        'num_classes': about['num_classes'],
        **_scale(about),
      },
      'task': dict(about['task'] or {'name': 'classification'}),
      'source': {**source, 'trained': trained},
      'cases': {'batch_size': _count(about, truth)},
      'model': dict(model),
      'weights': {'path': sent},
      'client': dict(own),
      'trainable': {'freeze': [*freeze]},
      'threat': {'grants': []},  # not even the labels
    }
  )


def _scale(about: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the ranges of the channels, those that are given."""
  found = {key: [*about[key]] for key in ('low', 'high') if about[key]}
  return {key: v[0] if len(v) == 1 else v for key, v in found.items()}


def _count(about: Mapping[str, Any], truth: str) -> int:
  """Returns the number of images behind an update."""
  count = about['examples']
  if truth:
    arrays = archives.read(paths.expanded(truth, 'truth'))
    x = (captures.part_of(arrays, 'truth') or arrays).get('x', ())
    known = len(x) if np.ndim(x) else 0
    if count not in (None, known):
      raise ValueError(
        f'Expected examples={known}, as many images as truth={truth!r} has; '
        f'got examples={count}; correct one of them'
      )
    count = known
  count = count or about['client'].get('batch_size')
  if not count:
    raise ValueError(
      'Expected examples, the number of images behind the update; got neither '
      "that nor truth nor the client's batch_size; set one of them"
    )
  return count


def _earlier_steps(folder: pathlib.Path) -> int | None:
  """Returns the steps that an audit in a workdir has chosen, if there is one.

  Nothing else is taken from there: it may come from elsewhere.
  """
  path = folder / 'config.json'
  if not path.is_file():
    return None
  variants = records.run(path)['config'].get('sweep', {}).get('variant') or ()
  for variant in variants:
    attack = variant.get('attack') if isinstance(variant, dict) else None
    steps = attack.get('num_steps') if isinstance(attack, dict) else None
    if type(steps) is int and 1 <= steps <= battery.MOST_STEPS:
      return steps
  return None


def _card(plan: battery.Plan) -> str:
  """Returns what is tried and what is not, in sentences."""
  tried = ', '.join(v['name'] for v in plan.config['sweep']['variant'])
  lines = [f'An audit of a received update. Tried: {tried}.']
  if plan.left_out:
    lines.append('Not tried, because it does not fit:')
    lines += [f'- {name}: {why}' for name, why in plan.left_out.items()]
  for line in lines:
    _log.info('%s', line)
  return '\n'.join(lines)
