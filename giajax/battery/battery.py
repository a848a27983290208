"""Which attacks fit a received update, and how many steps the time allows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import logging
import re
import time
from typing import Any, NamedTuple

from giajax import registry
from giajax.battery import BATTERY
from giajax.battery import FALLBACK
from giajax.battery import pilot
from giajax.battery import TIMED
from giajax.engine import build
from giajax.engine import checks
from giajax.engine import experiment
from giajax.engine import schema
from giajax.engine import sweep

RESTARTS = 8  # of each attack that takes steps
LEAST_STEPS, MOST_STEPS = 100, 24_000
_LADDER = 'inverting gradients'  # is tried with less knowledge as well
# Rules that find labels, and the rule for one image.
_LABELS, _LABEL = ('bias_corrected', 'column_minimum'), 'idlg'
_log = logging.getLogger('giajax')


class Plan(NamedTuple):
  """What an audit is going to try.

  Attributes:
    config: the config, with a sweep over what is tried.
    left_out: what the other attacks need and do not have, by name.
  """

  config: Mapping[str, Any]
  left_out: Mapping[str, str]


class _Fitting(NamedTuple):
  """A setting of an attack that fits, and what was built of it."""

  variant: dict[str, Any]
  setup: experiment.Setup


_Build = Callable[[Mapping[str, Any]], experiment.Setup]  # `(variant)`


def plan(
  config: Mapping[str, Any],
  minutes: float,
  only: Sequence[str] = (),
  steps: int | None = None,
  grounds: build.Grounds | None = None,
) -> Plan:
  """Returns the attacks that fit, with as many steps as the time allows.

  Args:
    config: the config of a received update, without attack and sweep.
    minutes: the time that this plan and what it plans may take, about; see
      `audit.audit`.
    only: names in `BATTERY`; all of them if empty.
    steps: the steps of the timed ones, where they were chosen before.
    grounds: see `build.experiment`.

  Raises:
    ValueError: nothing fits; the message says why.
  """
  began = time.perf_counter()
  base = schema.resolve({**config, 'restarts': RESTARTS})
  rows = {**BATTERY, **FALLBACK}
  for name in only:
    registry.lookup(rows, name, 'attack of the battery')
  grounds = grounds or build.Grounds()

  def built(variant: Mapping[str, Any]) -> experiment.Setup:
    setup = build.setup(_changed(base, variant), grounds)
    setup.source.check(setup)
    return setup

  # What is wrong with the network or the files is wrong for every attack. What
  # is found about the update is kept, and takes none of the pilot's time.
  general = next(iter(FALLBACK.values()))
  whole = _changed(base, general)
  checks.found(whole, built(general), build.rows(whole))
  left_out: dict[str, str] = {}
  fitting = _fitting(base, dict.fromkeys(only or BATTERY), built, left_out)
  if not only and not any(f.variant['name'] in TIMED for f in fitting):
    fitting += _fitting(base, FALLBACK, built, left_out)
  if not fitting:
    raise ValueError(
      'Expected an attack that fits this update; got only '
      + ', and '.join(f'{name}, which {why}' for name, why in left_out.items())
      + '; choose another'
    )
  variants = [f.variant for f in fitting]
  matching = [f for f in fitting if f.variant['name'] == _LADDER]
  variants += [rung for f in matching for rung in _ladder(base, f)]
  timed = [v for v in variants if v['name'].startswith(TIMED)]
  if timed:
    until = began + 60 * minutes
    chosen = steps or _steps(base, timed, grounds, until)
    for variant in timed:
      variant['attack'] = {**variant['attack'], 'num_steps': chosen}
  return Plan({**base, 'sweep': {sweep.VARIANT: variants}}, left_out)


def _changed(
  base: Mapping[str, Any], variant: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the config of a variant."""
  own = {key: value for key, value in variant.items() if key != 'name'}
  return sweep.changed(base, own)


def _fitting(
  base: Mapping[str, Any],
  names: Iterable[str],
  built: _Build,
  left_out: dict[str, str],
) -> list[_Fitting]:
  """Returns settings of the attacks that fit; why others do not is kept."""
  found = []
  for name in names:
    fitting, reason = _variant(base, name, built)
    if fitting is None:
      left_out[name] = reason
    else:
      found.append(fitting)
  return found


def _variant(
  base: Mapping[str, Any], name: str, built: _Build
) -> tuple[_Fitting | None, str]:
  """Returns a setting of an attack that fits, or None and what it needs."""
  row = {**BATTERY, **FALLBACK}[name]
  count = base['cases']['batch_size']
  rules = (_LABEL, *_LABELS) if count == 1 else _LABELS
  causes: dict[str, None] = {}
  for labels in [row['labels']] if 'labels' in row else rules:
    variant = {'name': name, **row, 'labels': labels}
    try:
      return _Fitting(variant, built(variant)), ''
    except ValueError as error:
      causes[_cause(str(error), row['attack']['name'])] = None
  return None, ', or '.join(causes)


def _cause(message: str, attack: str) -> str:
  """Returns what an attack needs and what there is, without the advice.

  The advice is for somebody who writes a config, and could take another
  network, client or attack.

  Args:
    message: why it is refused: Expected X; got Y; what to do.
    attack: its name in `ATTACKS`, which goes without saying.
  """
  expected, _, rest = message.partition('; got ')
  got = rest.partition('; ')[0]
  unknown = expected.removeprefix('Expected an attack that does without ')
  if unknown != expected:
    return f'needs {unknown}'
  needs = expected.removeprefix('Expected ')
  needs = re.sub(rf",? for (source=)?'?{attack}'?(?!\w)", '', needs)
  return f'needs {needs} (got {got})' if got else f'needs {needs}'


def _ladder(base: Mapping[str, Any], fitting: _Fitting) -> list[dict[str, Any]]:
  """Returns what an attack does if the server knows less of the client.

  It knows the order of the local steps, or only their number, or it takes the
  update for one gradient.
  """
  variant, setup = fitting
  steps, mode = setup.world.client.local_steps, setup.client.train_mode
  if steps == 1:
    return []
  name = variant['name']
  rungs = {
    f'{name} (as one gradient)': {'name': 'one_gradient', 'train_mode': mode},
  }
  if steps > setup.world.client.epochs:
    fixed = {**base['client'], 'shuffle': False}
    rungs = {f'{name} (in a fixed order of steps)': fixed, **rungs}
  return [
    {**variant, 'name': name, 'belief': belief}
    for name, belief in rungs.items()
  ]


def _steps(
  base: Mapping[str, Any],
  variants: Sequence[Mapping[str, Any]],
  grounds: build.Grounds,
  until: float,
) -> int:
  """Returns the steps of each attack, so that all of it ends at a time."""
  pace = pilot.pace(base, variants, grounds, until - time.perf_counter())
  if pace is None:
    _log.warning(
      'compiling takes most of the minutes: %d steps of each attack',
      LEAST_STEPS,
    )
    return LEAST_STEPS
  steps = until - time.perf_counter() - pace.rest
  steps /= max(pace.step, 1e-9)
  steps = int(min(max(steps, LEAST_STEPS), MOST_STEPS))
  digits = 10 ** max(0, len(str(steps)) - 2)
  steps -= steps % digits  # two digits: the time is not known any better
  left = (pace.rest + steps * pace.step) / 60
  _log.info('%d steps of each attack, in about %.2g min from now', steps, left)
  return steps
