"""Command lines of `thresholds` and `detection`."""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from giajax import registry
from giajax.verify import base
from giajax.verify.calibration import honest_models


def common(*, seeds: int) -> flags.FlagValues:
  """Returns the flags that both commands take, for each to add its own.

  Args:
    seeds: the default of --seeds.
  """
  values = flags.FlagValues()  # no flag is shared between the commands
  flags.DEFINE_bool(
    'help', False, 'Prints this text.', short_name='h', flag_values=values
  )
  flags.DEFINE_string(
    'data_dir',
    '',
    'The folder of tfds with CIFAR-10; without it, photographs are used.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'trained',
    '',
    'The folder of models that `giajax train` wrote; needs --data_dir.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'seeds', seeds, 'Number of models per fresh network.', 1, flag_values=values
  )
  flags.DEFINE_integer(
    'probe',
    16,
    'The number of images that the client tries a model on.',
    base.LEAST_PROBE,
    flag_values=values,
  )
  flags.DEFINE_list(
    'networks',
    None,
    'The names of fresh networks; all of them by default.',
    flag_values=values,
  )
  return values


def parse(
  values: flags.FlagValues,
  argv: Sequence[str],
  tables: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> None:
  """Reads a command line into flags.

  Args:
    values: the flags of `common`, with further flags.
    argv: the program and its arguments.
    tables: for each flag that lists names, what they are and the table that
      must have them.

  Raises:
    ValueError: an unknown flag or name, or a value that does not fit.
  """
  try:
    rest = values(argv)[1:]
  except flags.Error as error:
    raise ValueError(
      f'Expected known flags; got {error}; see --help'
    ) from error
  if rest:
    raise ValueError(f'Expected known flags; got {" ".join(rest)}; see --help')
  networks = 'network', honest_models.FRESH
  for flag, (kind, table) in {'networks': networks, **tables}.items():
    for name in values[flag].value or ():
      registry.lookup(table, name, kind)


def usage(doc: str | None, values: flags.FlagValues) -> str:
  """Returns what --help prints: what the command does, and its flags."""
  lines = [doc or '', 'Flags:']
  for name in sorted(values):
    flag = values[name]
    if name != flag.name:  # the short form of another
      continue
    default = '' if flag.default in (None, '', False, []) else flag.default
    shown = name if flag.boolean else f'{name}={default}'
    lines += [f'  --{shown}', f'      {flag.help}']
  return '\n'.join(lines)
