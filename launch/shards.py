"""What a shard's command is, and what all launchers ask for and check.

A launcher adds to the words of the command what its scheduler knows: the number
of the shard, or the number of a process and the address of process 0.
"""

from collections.abc import Sequence
import pathlib
import re
import sys

from giajax import paths
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import sweep

FLAGS = (
  flags.CONFIG,
  flags.Flag('workdir', 'The folder that the results are written to.'),
)
# How long processes wait for one another. They read their Python from a disk
# that all of them share, and machines do not start at once.
_JOIN_SECONDS = 300
_URL = re.compile('[A-Za-z][A-Za-z0-9+.-]*://.*', re.DOTALL)


def dry_run(what: str) -> flags.Flag:
  """Returns the flag with which a launcher only prints something."""
  text = f'Prints {what}, and does nothing else.'
  return flags.Flag('dry_run', text, False, bool)


def workdir(arguments: flags.Arguments) -> pathlib.Path:
  """Returns the workdir of a command line.

  Raises:
    ValueError: it is no folder that workers can have.
  """
  text = arguments.values.workdir
  if _URL.fullmatch(text):
    raise ValueError(
      f'Expected a --workdir that is a path; got {text}; mount the bucket on '
      'every machine that works, and give the path of a folder in it'
    )
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
