"""Which check detects which malicious server.

  python -m giajax.verify.calibration.detection [--out=FILE.md] [--quick]
    [--data_dir=DIR] [--trained=DIR] [--seeds=10] [--probe=16] [--rounds=3]
    [--networks=NAME,NAME] [--attacks=NAME,NAME]

lets each malicious server, with its adaptive variants, write what one client
receives, on fresh networks and on those that `giajax train` left in --trained,
and runs every check on it. A cell of the table that it prints is

  AUC / detected

the area under the ROC curve against honest weights of the same network, and
the share of crafted weights that the committed threshold flags, whose false
alarms are 1 % (see `thresholds`). A dash stands for a check that has no layer
of the network to look at. The rows of `nobody` are the honest weights
themselves, and the shares of them that are flagged.

The client is the one of `giajax verify`: it knows the agreed network and tries
that one. One honest round, of 1, 5 or 20 steps in turn, lies between the
weights that it accepted last and those that the server alters. The checks of
the change are less reliable for a client that missed more rounds. For an attack
of several rounds, a check counts with its highest score in the first --rounds
rounds. --quick takes two fresh networks and three seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
import pathlib
import shlex
import sys
import time
from typing import Any, NamedTuple

from absl import flags
import jax
import numpy as np

from giajax.attacks import ATTACKS
from giajax.engine import provenance
from giajax.engine import systems
from giajax.verify import base
from giajax.verify import VERIFIERS
from giajax.verify.calibration import honest_models
from giajax.verify.calibration import malicious_servers
from giajax.verify.calibration import options

_MODULE = 'giajax.verify.calibration.detection'
_QUICK = ('mlp', 'convnet')


class Line(NamedTuple):
  """A line of the table.

  Attributes:
    server: a name in `malicious_servers.SERVERS`.
    network: the kind and the name of the network.
    crafted: the verdicts on each crafted model, by check.
    honest: the rows of `honest_models.scores` of the same network.
  """

  server: str
  network: str
  crafted: Sequence[Mapping[str, base.Verdict]]
  honest: Sequence[Mapping[str, Any]]


def main(argv: Sequence[str]) -> int:
  """Writes the table; returns the exit code."""
  values, table = _flags(), malicious_servers.SERVERS
  try:
    options.parse(values, argv, {'attacks': ('attack', table)})
    _check_complete()
  except ValueError as error:
    print(error, file=sys.stderr)
    return 2
  if values.help:
    print(options.usage(__doc__, values))
    return 0
  began = time.perf_counter()
  lines, notes = [], []
  for model in _networks(values):
    honest = _honest(model, values)
    for name in values.attacks or table:
      network = f'{model.kind} {model.name}'
      if model.kind == 'fresh' and model.name not in table[name].networks:
        continue
      try:
        crafted = _crafted(table[name], model, values)
      except ValueError as error:
        if not str(error).startswith('Expected'):
          raise
        notes.append(f'{name} on {network}: {error}')
        continue
      lines.append(Line(name, network, crafted, honest))
      print(f'# {name} on {network}', flush=True)
    jax.clear_caches()
  minutes = (time.perf_counter() - began) / 60
  command = shlex.join(['python', '-m', _MODULE, *argv[1:]])
  text = page(lines, notes, command, minutes)
  print(text)
  if values.out:
    pathlib.Path(values.out).write_text(text)
  return 0


def page(
  lines: Sequence[Line], notes: Sequence[str], command: str, minutes: float
) -> str:
  """Returns the table as Markdown.

  Args:
    lines: one per server and network.
    notes: sentences that say why a server was not run.
    command: the command that made the table.
    minutes: the minutes that it took.
  """
  head = ['attack', 'network', 'models', 'any', *VERIFIERS]
  rows = [head, ['-'] * len(head)]
  for network, honest in {line.network: line.honest for line in lines}.items():
    flagged = np.mean([bool(row['flagged']) for row in honest])
    alarms = [_alarms(honest, check) for check in VERIFIERS]
    count = str(len(honest))
    rows.append(['nobody', network, count, f'{flagged:.0%}', *alarms])
  for name, network, crafted, honest in lines:
    cells = [cell(crafted, honest, check) for check in VERIFIERS]
    flagged = np.mean([any(v.flagged for v in c.values()) for c in crafted])
    rows.append([name, network, str(len(crafted)), f'{flagged:.0%}', *cells])
  return '\n'.join(
    [
      f'`{command}`, {provenance.device()}, {minutes:.0f} minutes. AUC / '
      'detected at 1 % false alarms per check.',
      '',
      *(f'| {" | ".join(row)} |' for row in rows),
      '',
      *(f'- Not run: {note}' for note in notes),
      '',
    ]
  )


def _alarms(honest: Sequence[Mapping[str, Any]], check: str) -> str:
  """Returns the share of honest models that a check flags, – if none ran."""
  ran = [row for row in honest if check in row['scores']]
  if not ran:
    return '–'
  return f'{np.mean([check in row["flagged"] for row in ran]):.0%}'


def cell(
  crafted: Sequence[Mapping[str, base.Verdict]],
  honest: Sequence[Mapping[str, Any]],
  check: str,
) -> str:
  """Returns AUC and detection of one check, – if it has nothing to look at.

  Args:
    crafted: the verdicts on crafted models, by check.
    honest: the rows of `honest_models.scores`.
    check: the name of the check.
  """
  verdicts = [v[check] for v in crafted if v[check].ran]
  if not verdicts:
    return '–'
  # A layer that an honest network lacks, such as an imprint, scores 0 there.
  normal = [row['scores'].get(check, 0.0) for row in honest]
  detected = np.mean([v.flagged for v in verdicts])
  return f'{auc([v.score for v in verdicts], normal):.2f} / {detected:.0%}'


def auc(high: Sequence[float], low: Sequence[float]) -> float:
  """Returns how likely one of `high` exceeds one of `low`; ties count half."""
  pairs = np.subtract.outer(np.asarray(high), np.asarray(low))
  return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def _check_complete() -> None:
  missing = malicious_servers.unlisted(ATTACKS)
  if missing:
    raise ValueError(
      f'Expected every attack in SERVERS or HONEST; got {", ".join(missing)} '
      'in neither; add them to verify/calibration/malicious_servers.py'
    )


def _seeds(values: flags.FlagValues) -> int:
  return 3 if values.quick else values.seeds


def _networks(values: flags.FlagValues) -> Iterator[honest_models.Honest]:
  """Yields the networks that the flags name, fresh ones first."""
  images = systems.dataset(honest_models.entry(values.data_dir))
  servers = malicious_servers.SERVERS.values()
  names = sorted({name for server in servers for name in server.networks})
  names = _QUICK if values.quick else names
  if values.networks is not None:
    names = [name for name in names if name in values.networks]
  yield from honest_models.fresh(images, names, _seeds(values))
  if values.trained and values.data_dir and not values.quick:
    yield from honest_models.trained(values.trained, images)


def _honest(
  model: honest_models.Honest, values: flags.FlagValues
) -> list[dict[str, Any]]:
  """Returns as many check-ups of honest weights as of crafted ones."""
  draws = 1 if model.kind == 'fresh' else _seeds(values)
  names = list(VERIFIERS)
  return list(
    honest_models.scores(model, probe=values.probe, probes=draws, names=names)
  )


def _crafted(
  server: malicious_servers.Server,
  model: honest_models.Honest,
  values: flags.FlagValues,
) -> list[dict[str, base.Verdict]]:
  return list(
    malicious_servers.verdicts(
      server,
      model,
      seeds=_seeds(values),
      rounds=values.rounds,
      probe=values.probe,
      data_dir=values.data_dir,
    )
  )


def _flags() -> flags.FlagValues:
  values = options.common(seeds=10)
  flags.DEFINE_string(
    'out', '', 'The Markdown file to write the table to.', flag_values=values
  )
  flags.DEFINE_bool(
    'quick',
    False,
    'Takes two fresh networks and three seeds: minutes on two cores.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'rounds',
    3,
    'The largest number of rounds of an attack.',
    1,
    flag_values=values,
  )
  flags.DEFINE_list(
    'attacks',
    None,
    'The names of malicious servers; all of them by default.',
    flag_values=values,
  )
  return values


if __name__ == '__main__':
  sys.exit(main(sys.argv))
