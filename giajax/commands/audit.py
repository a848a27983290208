"""Runs an experiment and writes its report.

giajax --config=PATH_OR_NAME --workdir=DIR [--config.x.y=value] [--shard=i/n]
giajax --list             prints every attack, model, data set, ...
"""

from collections.abc import Sequence
import shlex

from absl import flags as absl_flags
from absl import logging as absl_logging
import jax

from giajax import registry
from giajax import tables
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import hooks
from giajax.engine import run as engine
from giajax.report import report
from giajax.results import rows as row_format


def run(argv: Sequence[str], usage: str) -> int:
  """Runs what the arguments behind `giajax` say.

  Args:
    argv: the arguments.
    usage: what `giajax --help` says of all commands.
  """
  values = _flags()
  rest = flags.parse(values, ['giajax', *argv])
  if values.help:
    print(f'{usage}\n{values.main_module_help()}')
    return 0
  if values.list:
    return list_tables()
  if rest or values.config is None or not values.workdir:
    raise ValueError(
      'Expected --config=... and --workdir=...; got '
      f'{" ".join(argv) or "nothing"}; see giajax --help'
    )
  absl_logging.set_verbosity(absl_logging.FATAL)  # Orbax's; we raise them
  process.log_to_stderr()
  process.cache_compilations()
  _join_processes(values)
  rows = engine.audit(
    values.config,
    values.workdir,
    hooks=[hooks.progress()],
    shard=_shard(values.shard),
    card=flags.card(['giajax', *argv]),
    command=shlex.join(['giajax', *argv]),
  )
  for row in rows:
    print(row_format.summary_line(row))
  if rows:
    print(f'report: {report.write(values.workdir)}')
  elif values.process == 0:
    print('done; the report is written when all shards are')
  return 0


def _flags() -> absl_flags.FlagValues:
  values = flags.values()
  strings = {
    'workdir': (None, 'Where results are written.'),
    'shard': ('0/1', "i/n: this process's n-th of the work, i from 0."),
    'coordinator': (None, 'host:port of process 0, for --processes > 1.'),
  }
  for name, (default, text) in strings.items():
    absl_flags.DEFINE_string(name, default, text, flag_values=values)
  absl_flags.DEFINE_integer(
    'processes', 1, 'Processes that run together.', 1, flag_values=values
  )
  absl_flags.DEFINE_integer(
    'process', 0, 'The number of this one.', 0, flag_values=values
  )
  absl_flags.DEFINE_bool(
    'list', False, 'Print every table.', flag_values=values
  )
  return values


def _join_processes(values) -> None:
  if values.processes == 1:
    return
  if values.coordinator is None or values.process >= values.processes:
    raise ValueError(
      'Expected --coordinator=host:port and --process from 0 to '
      f'{values.processes - 1}; got --coordinator={values.coordinator} '
      f'--process={values.process}; set them on every process'
    )
  jax.distributed.initialize(
    values.coordinator, values.processes, values.process
  )


def list_tables() -> int:
  """Prints every table with a line per row."""
  for kind, table in tables.TABLES.items():
    print(f'{kind}:')
    width = max(map(len, table))
    for name, row in table.items():
      print(f'  {name:{width}}  {registry.summary(row)}')
  return 0


def _shard(text: str) -> tuple[int, int]:
  index, _, count = text.partition('/')
  if not (index.isdigit() and count.isdigit()):
    raise ValueError(
      f'Expected --shard=i/n; got --shard={text}; for instance 0/4'
    )
  return int(index), int(count)
