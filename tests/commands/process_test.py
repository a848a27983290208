"""Tests of what a command does to its process."""

import subprocess
import sys

# Each part would write to standard error, or fail, in a process as it is.
_CODE = """
import logging, warnings
from absl import logging as absl_logging
from giajax.commands import process
process.guard_output()
process.quiet_libraries()
warnings.warn('of Pillow')
logging.getLogger('PIL.TiffImagePlugin').error('of Pillow')
absl_logging.error('of Orbax')
class Unraisable(str):
  def __del__(self):
    raise RuntimeError(self)
Unraisable('Event loop is closed')
Unraisable('a fault')
print('21 \u2013 \u221e')
"""


def test_libraries_are_quiet_and_any_encoding_does():
  done = subprocess.run(
    [sys.executable, '-c', _CODE],
    env={'PYTHONIOENCODING': 'ascii', 'PYTHONPATH': ':'.join(sys.path)},
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.stderr.count('Traceback') == 1
  assert done.stderr.endswith('\nRuntimeError: a fault\n')
  assert 'of ' not in done.stderr
  assert done.stdout == '21 \\u2013 \\u221e\n'
