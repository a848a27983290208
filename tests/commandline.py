"""The command line in this process, and a config file for it."""

from giajax import main

_CONFIG = """
'''Two photographs.'''
from giajax.engine import build


def get_config(arg=None):
  config = build.default_config()
  config.dataset = dict(name='photographs', size=12)
  config.model = dict(name='mlp', widths=(4,))
  config.attack = dict(name='inverting_gradients', num_steps=2)
  config.attack.total_variation = 0.0
  {change}
  return config
"""


def write(folder, change='pass'):
  """Writes a config file with a changed line, and returns its path."""
  path = folder / 'config.py'
  path.write_text(_CONFIG.replace('{change}', change))
  return path


def complaint(capsys, *arguments):
  """Runs giajax and returns the one line that it must complain in."""
  code = main.main(['giajax', *map(str, arguments)])
  out, err = capsys.readouterr()
  assert code == 2
  assert out == ''
  lines = err.splitlines()
  assert len(lines) == 1, err
  assert lines[0].startswith('giajax: Expected')
  assert '; got ' in err
  return lines[0]
