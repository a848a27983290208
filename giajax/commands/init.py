"""Writes a config file to start from, with a comment on every part.

giajax init FILE.py

FILE.py is a copy of configs/own_system.py, which runs as it stands. A file that
exists is left alone.
"""

import pathlib

from giajax import printable
from giajax.commands import configs
from giajax.commands import flags

USAGE = 'giajax init FILE'
FLAGS = ()
_TEMPLATE = 'own_system'


def run(arguments: flags.Arguments) -> int:
  """Writes the file and prints how to run it."""
  (name,) = arguments.words
  path = configs.copied(_TEMPLATE, name)
  folder = pathlib.Path('runs') / path.stem
  print(printable.line(f'{path}: run it by'))
  print(printable.line(f'giajax --config={name} --workdir={folder}'))
  return 0
