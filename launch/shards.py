"""What a shard's command is, and what all launchers ask for and check.

A launcher adds to the words of the command what its scheduler knows: the number
of the shard, or the number of a process and the address of process 0.
"""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import os
import pathlib
import re
import sys
from typing import Any

from giajax import paths
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import sweep
from giajax.engine.remote import store

FLAGS = (flags.CONFIG, flags.WORKDIR)
# How long processes wait for one another. They read their Python from a disk
# that all of them share, and machines do not start at once.
_JOIN_SECONDS = 300


def dry_run(what: str) -> flags.Flag:
  """Returns the flag with which a launcher only prints something."""
  text = f'Prints {what}, and does nothing else.'
  return flags.Flag('dry_run', text, False, bool)


def workdir(arguments: flags.Arguments) -> pathlib.Path | None:
  """Returns the workdir of a command line, None for a URL.

  Raises:
    ValueError: it is no folder that workers can have.
  """
  text = arguments.values.workdir
  if paths.is_url(text):
    store.check(text)
    return None
  return paths.expanded(text, '--workdir')


def words(
  arguments: flags.Arguments,
  *,
  config: str = '',
  workdir: str = '',
  python: str = sys.executable,
) -> list[str]:
  """Returns the command that runs everything by itself, as words.

  Args:
    arguments: the command line of the launcher.
    config: the config as workers find it, if not as it is given.
    workdir: the workdir as workers find it, if not as it is given.
    python: the interpreter of the workers.

  Raises:
    ValueError: a config that cannot be right, which is said here once and not
      by each worker.
  """
  values = arguments.values
  sweep.expand(configs.load(arguments))
  return [
    *(python, '-m', 'giajax.main'),
    f'--config={config or values.config}',
    f'--workdir={workdir or values.workdir}',
    *(f'--config.{key}={text}' for key, text in arguments.overrides.items()),
  ]


def config_file(arguments: flags.Arguments) -> pathlib.Path | None:
  """Returns the config file of the user's, None for one of giajax's own."""
  name = arguments.values.config.partition(':')[0]
  path = paths.expanded(name, '--config')
  return path if path.suffix == '.py' else None


def config_argument(arguments: flags.Arguments) -> str:
  """Returns what stands behind the name of the config, with its colon."""
  _, colon, argument = arguments.values.config.partition(':')
  return colon + argument


def check_files(arguments: flags.Arguments, mount: str = '') -> None:
  """Raises ValueError for a config that names files which workers lack.

  Args:
    arguments: the command line of the launcher.
    mount: where workers see what this machine need not see.
  """
  for text in _texts(configs.load(arguments)):
    name = text.rpartition(':')[0] or text
    local = re.search('[/.]', name) and os.path.exists(os.path.expanduser(name))
    if local and not (mount and pathlib.Path(name).is_relative_to(mount)):
      where = f'below {mount}' if mount else 'on a disk that they share'
      raise ValueError(
        f'Expected a config whose files all workers have; got {text!r}, which '
        f'is a file of this machine; put it {where}, and name it there'
      )


def _texts(value: Any) -> Iterator[str]:
  """Yields every text in a config."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, Mapping):
    yield from itertools.chain.from_iterable(map(_texts, value.values()))
  elif isinstance(value, list | tuple):
    yield from itertools.chain.from_iterable(map(_texts, value))


def shard(index: int | str, count: int | str) -> str:
  """Returns the word that makes a command that of one shard.

  Args:
    index: the number of the shard, or what a scheduler replaces by it.
    count: the number of shards.
  """
  return f'--shard={index}/{count}'


def process(
  index: int | str, count: int | str, coordinator: str
) -> Sequence[str]:
  """Returns the words that make a command that of one process of several.

  Args:
    index: the number of the process, or what a scheduler replaces by it.
    count: the number of processes.
    coordinator: host:port of process 0, or what stands for it.
  """
  return (
    *(f'--processes={count}', f'--process={index}'),
    *(f'--coordinator={coordinator}', f'--join_seconds={_JOIN_SECONDS}'),
  )


def commands(base: Sequence[str], count: int) -> list[list[str]]:
  """Returns the command of each shard and, last, of the pass that joins them.

  Args:
    base: what `words` returned.
    count: the number of shards, at least 1.
  """
  return [*([*base, shard(i, count)] for i in range(count)), [*base]]
