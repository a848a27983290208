"""Lets atheris look for bytes that a reader fails on.

atheris is libFuzzer for Python (https://github.com/google/atheris): it changes
whole files so that more and more of a reader's code is run. It is installed by
`pip install atheris` where it has wheels, and left out elsewhere. Each try is a
process that makes `search.RUNS` of them; what it writes tells the bytes.
"""

import os
import re
import sys

from tests.campaign import processes
from tests.campaign import search
from tests.campaign import tries

_SECONDS = 300.0
_RUNS = re.compile(r'^#(\d+)\s', re.MULTILINE)  # of a line of libFuzzer


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Looks for bytes that one reader fails on; see `kills.attempt`."""
  name = [*search.READERS][number % len(search.READERS)]
  seed = str(lab.random.integers(1, 2**31))
  words = [sys.executable, '-m', search.__name__, name, seed, str(lab.own)]
  variables = {**os.environ, 'PYTHONPATH': processes.PATH}
  process = processes.Process(
    lab.own, lambda: os.execve(sys.executable, words, variables)
  )
  ending = process.finished(_SECONDS)
  verdict = ending.verdict
  if ending.code is not None:
    verdict = 'traceback' if ending.code else 'accepted'
  count = max(map(int, _RUNS.findall(ending.errors)), default=1)
  return tries.Try(f'{name}, seed {seed}', verdict, count, [ending])
