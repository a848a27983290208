"""The command line.

  giajax --config=PATH_OR_NAME --workdir=DIR [--config.x.y=value]
  giajax --list
  giajax report WORKDIR

A mistake of the user ends in one line and exit code 2; a run that was asked to
stop saves first and exits with 85.
"""

from collections.abc import Callable, Sequence
import os
import pathlib
import shlex
import sys

from absl import flags
from absl import logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A config file or the name of one in configs/; `:arg`.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where results are written.')
_SHARD = flags.DEFINE_string('shard', '0/1', 'i/n: every n-th part only.')
_LIST = flags.DEFINE_bool('list', False, 'Print every table and stop.')
_CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'
STOPPED = 85


def run() -> None:
  """Entry point of the `giajax` command."""
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
  try:
    rest = flags.FLAGS([_with_path(a) for a in argv])[1:]
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    text = ' '.join(str(error).split())
    return _fail(f'Expected known flags and config keys; got: {text}')
  if _LIST.value:
    return _print_tables()
  if rest or _CONFIG.value is None or not _WORKDIR.value:
    got = ' '.join(argv[1:]) or 'nothing'
    return _fail(f'Expected --config=... and --workdir=...; got {got}')
  logging.set_verbosity(logging.WARNING)
  cache_compilations()
  from giajax.engine import hooks
  from giajax.engine import run as engine

  try:
    rows = engine.audit(
      _CONFIG.value,
      _WORKDIR.value,
      hooks=[hooks.progress()],
      shard=_shard(_SHARD.value),
      card=_card(argv),
      command=shlex.join(['giajax', *argv[1:]]),
    )
  except engine.Interrupted as stopped:
    print(f'giajax: {stopped}; the same command continues', file=sys.stderr)
    return STOPPED
  for row in rows:
    print(_line(row))
  page = pathlib.Path(_WORKDIR.value) / 'report.html'
  if page.exists():
    print(f'report: {page}')
  return 0


def cache_compilations() -> None:
  """Keeps compiled programs between runs, where the user named no folder."""
  import jax

  if not jax.config.jax_compilation_cache_dir:
    home = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    folder = pathlib.Path(home).expanduser() / 'giajax' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', str(folder))


def _report(argv: Sequence[str]) -> int:
  """Rebuilds the report of a workdir."""
  from giajax.report import report

  if len(argv) != 1:
    return _fail(
      f'Expected giajax report WORKDIR; got {len(argv)} arguments; name one'
    )
  print(report.write(argv[0]))
  return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {'report': _report}


def _print_tables() -> int:
  from giajax import registry
  from giajax import tables

  for kind, table in tables.TABLES.items():
    print(f'{kind}:')
    width = max(map(len, table))
    for name, row in table.items():
      print(f'  {name:{width}}  {registry.summary(row)}')
  return 0


def _with_path(argument: str) -> str:
  """Turns `--config=name` into the path of configs/name.py."""
  for prefix in ('--config=', '-config='):
    if argument.startswith(prefix):
      name, colon, arg = argument.removeprefix(prefix).partition(':')
      path = pathlib.Path(name)
      if path.suffix != '.py':
        path = _CONFIGS / f'{name}.py'
      if not path.is_file():
        raise ValueError(
          f'Expected a config file, or one of {", ".join(_names())}; got '
          f'--config={name}; correct the name'
        )
      return f'{prefix}{path}{colon}{arg}'
  return argument


def _names() -> list[str]:
  found = sorted(_CONFIGS.rglob('*.py'))
  return [str(f.relative_to(_CONFIGS).with_suffix('')) for f in found]


def _card(argv: Sequence[str]) -> str:
  """Returns the docstring of the config file."""
  import ast

  for argument in map(_with_path, argv):
    if argument.startswith(('--config=', '-config=')):
      path = argument.split('=', 1)[1].partition(':')[0]
      tree = ast.parse(pathlib.Path(path).read_text(encoding='utf-8'))
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


if __name__ == '__main__':
  run()
