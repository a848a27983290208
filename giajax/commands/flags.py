"""The flags of a command, and how a command line is read with them."""

from collections.abc import Callable, Sequence
import re
import shlex
import textwrap
from typing import Any, NamedTuple

from absl import flags as absl_flags

from giajax import registry
from giajax import require

_DEFINE: dict[type, Callable[..., Any]] = {
  bool: absl_flags.DEFINE_bool,
  float: absl_flags.DEFINE_float,
  int: absl_flags.DEFINE_integer,
  list: absl_flags.DEFINE_list,
  str: absl_flags.DEFINE_string,
}
_OVERRIDE = re.compile(
  r'--?(?:noconfig\.(?P<off>[^=]*)|config\.(?P<key>[^=]*)(?:=(?P<text>.*))?)',
  re.DOTALL,
)
# Flags that absl takes by itself: a file of further ones, and what to ignore.
_OF_ABSL = re.compile(r'--?(?P<name>flagfile|undefok)(?:=.*)?', re.DOTALL)
# A word that begins with a dash and is no flag.
_NEGATIVE = re.compile(r'-[\d.].*', re.DOTALL)


class Flag(NamedTuple):
  """A flag of a command.

  Attributes:
    name: the text after the two dashes.
    help: a sentence that says what it sets.
    default: the value of a flag that is not set.
    kind: bool, int, float, str, or list for strings separated by commas.
    least: the smallest integer, or None. The largest is that of int32.
  """

  name: str
  help: str
  default: Any = ''
  kind: type = str
  least: int | None = None


class Arguments(NamedTuple):
  """A command line that was read.

  Attributes:
    values: the value of each flag, as an attribute.
    words: the arguments that are not flags.
    overrides: the texts of `--config.KEY=TEXT`, by key.
    command: the whole line, to be typed again.
    help: whether help was asked for.
  """

  values: absl_flags.FlagValues
  words: list[str]
  overrides: dict[str, str]
  command: str
  help: bool


CONFIG = Flag(
  'config',
  'The experiment: a config file, or the name of one in configs/. NAME:ARG '
  'passes ARG to its get_config. --config.KEY=VALUE sets one key of it.',
)
WORKDIR = Flag(
  'workdir',
  'The folder that the results are written to, or its URL in an object store, '
  'as gs://BUCKET/RUN or s3://BUCKET/RUN.',
)
CASE = Flag('case', 'The draw of images, counted from 0.', 0, int, 0)
FAIL_ON = Flag(
  'fail_on',
  'The verdict that ends in exit code 1: partial, or only leaks.',
)
REDACT = Flag(
  'redact',
  'Leaves the originals out of the report, and makes other images coarse.',
  False,
  bool,
)
OUT = Flag('out', 'The npz file to write.')
POINT = Flag(
  'point',
  'The setting of the sweep to use, counted from 0, with the last swept key '
  'changing fastest. It is required if the config has a sweep.',
  None,
  int,
)

# How several processes share the work.
SPLIT = (
  Flag(
    'shard',
    'The part of the work that this process does: I of N parts, I from 0.',
    '0/1',
  ),
  Flag(
    'processes',
    'The number of processes that run one audit together.',
    1,
    int,
    1,
  ),
  Flag('process', 'The number of this process, from 0.', 0, int, 0),
  Flag(
    'coordinator', 'HOST:PORT of process 0, if there is more than one process.'
  ),
  Flag('join_seconds', 'How long to wait for the other processes.', 60, int, 1),
)


def read(
  command: str, usage: str, flags: Sequence[Flag], argv: Sequence[str]
) -> Arguments:
  """Reads a command line.

  Args:
    command: what comes before the arguments, such as 'giajax train'.
    usage: a line such as 'giajax convert SOURCE --out=FILE'. A word in capitals
      is a required argument, with dots at its end one or several, and a flag is
      a required flag.
    flags: the flags that the command takes, besides --help.
    argv: the arguments.

  Raises:
    ValueError: a flag is unknown, a value does not fit, or an argument is
      missing or superfluous.
  """
  values = _values(flags)
  line = shlex.join([*command.split(), *argv])
  if {'--help', '-help', '-h'} & {*argv}:
    return Arguments(values, [], {}, line, True)
  rest, overrides = _split(argv)
  own = next(filter(None, map(_OF_ABSL.fullmatch, rest)), None)
  if own:
    raise _unknown(command, own['name'], flags)
  try:
    words = values([command, *rest])[1:]
  except absl_flags.UnrecognizedFlagError as error:
    raise _unknown(command, error.flagname, flags) from error
  except absl_flags.Error as error:
    raise ValueError(
      f'Expected values that the flags of {command} take; got '
      f'{_one_line(error)}; see {command} --help'
    ) from error
  if overrides and not any(flag.name == 'config' for flag in flags):
    raise _unknown(command, f'config.{next(iter(overrides))}', flags)
  arguments = Arguments(values, words, overrides, line, False)
  _check(arguments, command, usage, argv)
  return arguments


def help_text(doc: str | None, flags: Sequence[Flag]) -> str:
  """Returns the help of a command: what it does, and every flag."""
  lines = [(doc or '').strip(), '', 'Flags:']
  for flag in (*flags, _HELP):
    shown = '' if flag.default in ('', None, []) else flag.default
    name = f'--{flag.name}' if flag.kind is bool else f'--{flag.name}={shown}'
    text = textwrap.fill(flag.help, 74)
    lines += [f'  {name}', textwrap.indent(text, 6 * ' ')]
  return '\n'.join(lines)


_HELP = Flag('help', 'Prints this text.', False, bool)


def _values(flags: Sequence[Flag]) -> absl_flags.FlagValues:
  values = absl_flags.FlagValues()
  absl_flags.DEFINE_bool(
    'help', False, _HELP.help, flag_values=values, short_name='h'
  )
  for flag in flags:
    bound = {}
    if flag.kind is int:
      most = require.LARGEST_WHOLE
      least = -most if flag.least is None else flag.least
      bound = {'lower_bound': least, 'upper_bound': most}
    define = _DEFINE[flag.kind]
    define(flag.name, flag.default, flag.help, flag_values=values, **bound)
  return values


def _split(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """Returns the arguments without overrides of the config, and these."""
  rest, overrides, queue = [], {}, list(argv)
  while queue:
    word = queue.pop(0)
    match = _OVERRIDE.fullmatch(word)
    if not match:
      rest.append(word)
      continue
    key, text = match['key'], match['text']
    if key is None:
      key, text = match['off'], 'False'
    elif text is None:
      text = queue.pop(0) if queue and _is_value(queue[0]) else 'True'
    overrides[key] = text
  return rest, overrides


def _is_value(word: str) -> bool:
  return not word.startswith('-') or bool(_NEGATIVE.fullmatch(word))


def _check(
  arguments: Arguments, command: str, usage: str, argv: Sequence[str]
) -> None:
  """Raises ValueError unless everything in `usage` is there, and no more."""
  values, words = arguments.values, arguments.words
  required = re.findall(r'--(\w+)=', usage)
  names = [word for word in usage.split() if word.isupper()]
  missing = names[len(words) :]
  missing += [f'--{name}' for name in required if not values[name].value]
  several = bool(names) and names[-1].endswith('...')
  surplus = [] if several else words[len(names) :]
  if missing or surplus:
    advice = f'remove {surplus[0]!r}' if surplus else f'add {missing[0]}'
    raise ValueError(
      f'Expected {usage}; got {shlex.join(argv) or "nothing"}; {advice}, or '
      f'see {command} --help'
    )


def _unknown(command: str, name: str, flags: Sequence[Flag]) -> ValueError:
  near = registry.closest(name, [flag.name for flag in (*flags, _HELP)])
  advice = f'did you mean --{near}?' if near else f'see {command} --help'
  return ValueError(f'Expected a flag of {command}; got --{name}; {advice}')


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())
