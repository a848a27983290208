"""Command lines with a config: `--config=NAME` and `--config.x.y=value`."""

import ast
from collections.abc import Iterator, Sequence
import contextlib
import pathlib
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'


def bare() -> flags.FlagValues:
  """Returns flags of which `help` is the only one."""
  found = flags.FlagValues()
  flags.DEFINE_bool(
    'help', False, 'Print this.', short_name='h', flag_values=found
  )
  return found


def plain(
  found: flags.FlagValues, argv: Sequence[str], command: str
) -> list[str]:
  """Reads a command line without a config into flags.

  Args:
    found: from `bare`, with further flags.
    argv: the arguments behind the command.
    command: such as 'giajax convert'.

  Returns:
    The arguments that are no flags.

  Raises:
    ValueError: an unknown flag, or a value that does not fit.
  """
  try:
    return found([command, *argv])[1:]
  except flags.Error as error:
    raise ValueError(
      f'Expected known flags; got {" ".join(str(error).split())}; see '
      f'{command} --help'
    ) from error


def values() -> flags.FlagValues:
  """Returns flags of which `config` is the only one, and `help`."""
  found = bare()
  config_flags.DEFINE_config_file(
    'config',
    None,
    'A config file or the name of one in configs/; name:arg passes arg.',
    flag_values=found,
  )
  return found


def parse(
  found: flags.FlagValues, argv: Sequence[str], command: str = 'giajax'
) -> list[str]:
  """Reads a command line into flags.

  Args:
    found: from `values`, with further flags.
    argv: the program and its arguments.
    command: what to type before --help.

  Returns:
    The arguments that are no flags.

  Raises:
    ValueError: an unknown flag or config, or a value that does not fit.
  """
  arguments = with_paths(argv)
  try:
    with _as_sys_argv(arguments):
      return found(arguments)[1:]
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    raise ValueError(
      'Expected known flags and keys of the config; got '
      f'{_mistake(error, argv)}; set single keys, as in '
      f'--config.model.name=NAME, or see {command} --help'
    ) from error


def with_paths(argv: Sequence[str]) -> list[str]:
  """Turns `--config=name` and `--config name` into configs/name.py.

  Raises:
    ValueError: no such file.
  """
  found, rest = [], iter(argv)
  for argument in rest:
    flag, equals, value = argument.partition('=')
    if flag in ('--config', '-config'):
      value = value if equals else next(rest, '')
      argument = f'{flag}={_path(value)}'
    found.append(argument)
  return found


def card(argv: Sequence[str]) -> str:
  """Returns the docstring of the config file, '' where there is none."""
  for argument in with_paths(argv):
    flag, _, value = argument.partition('=')
    if flag in ('--config', '-config'):
      path = pathlib.Path(value.partition(':')[0])
      tree = ast.parse(path.read_text(encoding='utf-8'))
      return ast.get_docstring(tree) or ''
  return ''


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


def keyword_arguments(text: str) -> dict[str, Any]:
  """Returns the keyword arguments in a text; bare words are strings."""
  try:
    call = ast.parse(f'f({text})', mode='eval').body
    if (
      not isinstance(call, ast.Call)
      or not isinstance(call.func, ast.Name)
      or call.args
    ):
      raise ValueError('no keyword arguments')
    found = {str(k.arg): _value(k.value) for k in call.keywords}
    if len(found) < len(call.keywords) or found.keys() & {'None', 'name'}:
      raise ValueError('a keyword twice, or none')
  except (SyntaxError, ValueError) as error:
    raise ValueError(
      f'Expected key=value, key=value; got --model_options={text}; correct it'
    ) from error
  shape = found.get('image_shape', ())
  if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
    raise ValueError(
      f'Expected image_shape=(H, W, C); got image_shape={shape}; correct it'
    )
  return found


def _value(node: ast.expr) -> Any:
  return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def pairs(text: str) -> dict[str, str]:
  pairs = [pair.partition('=') for pair in text.split(',') if pair]
  for old, equals, new in pairs:
    if not old or not equals:
      raise ValueError(
        f'Expected pairs old=new; got --rename={text} with {old + new!r}; '
        'correct it'
      )
  return {old.strip(): new.strip() for old, _, new in pairs}
