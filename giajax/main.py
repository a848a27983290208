"""The command line.

  giajax --config=PATH_OR_NAME --workdir=DIR [--config.x.y=value] [--shard=i/n]
  giajax --list             prints every attack, model, data set, ...
  giajax report WORKDIR     rebuilds the report, without a device
  giajax convert SOURCE --model=NAME --out=FILE.npz    weights from elsewhere

A mistake of the user ends in one line and exit code 2; a run that was asked to
stop saves first and exits with 85. The same command continues it.
"""

import ast
from collections.abc import Iterator, Sequence
import contextlib
import gc
import logging
import os
import pathlib
import shlex
import sys

from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

_CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'
_log = logging.getLogger('giajax')
STOPPED = 85


def run() -> None:
  """Entry point of the `giajax` command."""
  use_machine()
  sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
  """Runs a command line and returns its exit code."""
  try:
    if len(argv) > 1 and argv[1] in COMMANDS:
      return COMMANDS[argv[1]](argv[2:])
    return _audit(argv)
  except ValueError as error:
    # Deliberate errors have this form; others are bugs and keep their trace.
    if not str(error).startswith('Expected'):
      raise
    return _fail(str(error))


def _audit(argv: Sequence[str]) -> int:
  values = _flags()
  arguments = _with_paths(argv)
  try:
    with _as_sys_argv(arguments):
      rest = values(arguments)[1:]
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    return _fail(
      f'Expected known flags and keys of the config; got '
      f'{_mistake(error, argv)}; set single keys, as in '
      '--config.model.name=NAME, or see giajax --help'
    )
  if values.help:
    print(f'{__doc__}\n{values.main_module_help()}')
    return 0
  if values.list:
    return _print_tables()
  if rest or values.config is None or not values.workdir:
    got = ' '.join(argv[1:]) or 'nothing'
    return _fail(
      f'Expected --config=... and --workdir=...; got {got}; see giajax --help'
    )
  return _run(argv, arguments, values)


def _run(argv, arguments, values) -> int:
  absl_logging.set_verbosity(absl_logging.FATAL)  # Orbax's; we raise them
  _log_to_stderr()
  cache_compilations()
  _join_processes(values)
  from giajax.engine import hooks
  from giajax.engine import run as engine

  try:
    rows = engine.audit(
      values.config,
      values.workdir,
      hooks=[hooks.progress()],
      shard=_shard(values.shard),
      card=_card(arguments),
      command=shlex.join(['giajax', *argv[1:]]),
    )
  except engine.Interrupted as stopped:
    print(f'giajax: {stopped}; the same command continues', file=sys.stderr)
    return STOPPED
  for row in rows:
    print(_line(row))
  if rows:
    print(f'report: {pathlib.Path(values.workdir) / "report.html"}')
  elif values.process == 0:
    print('done; the report is written when all shards are')
  return 0


def _flags() -> flags.FlagValues:
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config',
    None,
    'A config file or the name of one in configs/; name:arg passes arg.',
    flag_values=values,
  )
  strings = {
    'workdir': (None, 'Where results are written.'),
    'shard': ('0/1', "i/n: this process's n-th of the work, i from 0."),
    'coordinator': (None, 'host:port of process 0, for --processes > 1.'),
  }
  for name, (default, text) in strings.items():
    flags.DEFINE_string(name, default, text, flag_values=values)
  flags.DEFINE_integer(
    'processes', 1, 'Processes that run together.', 1, flag_values=values
  )
  flags.DEFINE_integer(
    'process', 0, 'The number of this one.', 0, flag_values=values
  )
  flags.DEFINE_bool('list', False, 'Print every table.', flag_values=values)
  flags.DEFINE_bool(
    'help', False, 'Print this.', short_name='h', flag_values=values
  )
  return values


def cache_compilations() -> None:
  """Keeps compiled programs between runs, where the user named no folder."""
  import jax

  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    home = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    folder = pathlib.Path(home).expanduser() / 'giajax' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', str(folder))


def use_machine() -> None:
  """Settles how this process uses cores and memory, before JAX starts.

  A device of each CPU core, where the user did not say otherwise: independent
  restarts keep all cores busy even where one is too small to be split. And
  cycles of garbage are collected rarely: a trace makes millions of objects
  that stay, and looking through them again and again took a third of it.
  """
  import jax

  gc.set_threshold(1_000_000)

  if 'JAX_NUM_CPU_DEVICES' not in os.environ:
    jax.config.update('jax_num_cpu_devices', len(os.sched_getaffinity(0)))


def _join_processes(values) -> None:
  import jax

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


def _log_to_stderr() -> None:
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter('giajax: %(message)s'))
  _log.handlers = [handler]
  _log.setLevel(logging.INFO)
  _log.propagate = False


def _report(argv: Sequence[str]) -> int:
  """Rebuilds the report of a workdir."""
  from giajax.report import report

  if len(argv) != 1:
    return _fail(
      f'Expected giajax report WORKDIR; got {len(argv)} arguments; name one'
    )
  try:
    print(report.write(argv[0]))
  except OSError as error:
    return _fail(
      f'Expected a workdir that can be written; got {argv[0]}: '
      f'{error.strerror}; free some space or copy it'
    )
  return 0


def _convert(argv: Sequence[str]) -> int:
  """Writes weights of another framework as those of an architecture."""
  from giajax import converter

  print(converter.run(argv))
  return 0


def _mistake(error: Exception, argv: Sequence[str]) -> str:
  """Returns an error of absl or of a config file in one line."""
  text = str(error.args[0] if error.args else error)
  if 'Traceback' in text:  # of the user's config file
    text = text.splitlines()[-1]
  # config_flags names the last part of a key alone, in quotes.
  key = text.strip('\'"')
  where = [a for a in argv if f'.{key}=' in a]
  return where[0] if where else ' '.join(text.split())


@contextlib.contextmanager
def _as_sys_argv(arguments: Sequence[str]) -> Iterator[None]:
  """Shows config_flags the arguments: it looks for overrides in sys.argv."""
  old, sys.argv = sys.argv, list(arguments)
  try:
    yield
  finally:
    sys.argv = old


def _print_tables() -> int:
  from giajax import registry
  from giajax import tables

  for kind, table in tables.TABLES.items():
    print(f'{kind}:')
    width = max(map(len, table))
    for name, row in table.items():
      print(f'  {name:{width}}  {registry.summary(row)}')
  return 0


def _with_paths(argv: Sequence[str]) -> list[str]:
  """Turns `--config=name` and `--config name` into configs/name.py."""
  found, rest = [], iter(argv)
  for argument in rest:
    flag, equals, value = argument.partition('=')
    if flag in ('--config', '-config'):
      value = value if equals else next(rest, '')
      argument = f'{flag}={_path(value)}'
    found.append(argument)
  return found


def _path(value: str) -> str:
  name, colon, arg = value.partition(':')
  path = pathlib.Path(name)
  if path.suffix != '.py':
    path = _CONFIGS / f'{name}.py'
  if not path.is_file():
    known = sorted(
      str(f.relative_to(_CONFIGS).with_suffix(''))
      for f in _CONFIGS.rglob('*.py')
      if f.name != '__init__.py'
    )
    raise ValueError(
      f'Expected a config file, or one of {", ".join(known)}; got '
      f'--config={name}; correct the name'
    )
  return f'{path}{colon}{arg}'


def _card(arguments: Sequence[str]) -> str:
  """Returns the docstring of the config file."""
  for argument in arguments:
    flag, _, value = argument.partition('=')
    if flag in ('--config', '-config'):
      path = pathlib.Path(value.partition(':')[0])
      tree = ast.parse(path.read_text(encoding='utf-8'))
      return ast.get_docstring(tree) or ''
  return ''


def _shard(text: str) -> tuple[int, int]:
  index, _, count = text.partition('/')
  if not (index.isdigit() and count.isdigit()):
    raise ValueError(
      f'Expected --shard=i/n; got --shard={text}; for instance 0/4'
    )
  return int(index), int(count)


def _line(row: dict) -> str:
  sweep = ' '.join(f'{k}={v}' for k, v in row['sweep'].items())
  return (
    f'case {row["case"]} {sweep} psnr {row["psnr"]:.2f} dB, ssim '
    f'{row["ssim"]:.3f}, labels {row["label_accuracy"]:.0%}, '
    f'{row["finite_restarts"]}/{row["restarts"]} finite: {row["verdict"]} '
    f'({row["setting"]})'
  )


def _fail(text: str) -> int:
  print(f'giajax: {text}', file=sys.stderr)
  return 2


COMMANDS = {'convert': _convert, 'report': _report}

if __name__ == '__main__':
  run()
