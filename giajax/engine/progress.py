"""How far a run is, in a file of its workdir that others may read meanwhile.

Shard 1 of 4 writes `progress/1-of-4.json`, whole or not at all, every few
seconds: see `KIND`. `giajax status` reads these files.
"""

from collections.abc import Sequence
import json
import logging
import math
import os
import pathlib
import re
import socket
import time
from typing import Any, NamedTuple

import tqdm

from giajax.engine import hooks
from giajax.engine import signals
from giajax.engine import workdir
from giajax.results import records

_EVERY = 5.0  # seconds between two writes
_log = logging.getLogger('giajax')
_NAME = re.compile(r'\d+-of-\d+')
_COUNT = range(1 << 53)
_LATEST = 1e11  # seconds since 1970
KIND = {
  'host': str,
  'pid': range(1, 1 << 31),
  'state': str,  # 'running', 'done', 'stopped' or 'failed'
  'error': str,  # the last line of what ended it, '' for nothing
  'updates': _COUNT,  # of this shard, controls included
  'finished': _COUNT,  # of these
  'before': _COUNT,  # of these, by an earlier process
  'running': _COUNT,  # that are attacked right now
  'step': _COUNT,  # of them
  'steps': _COUNT,
  'started': float,  # by time.time()
  'written': float,
}


class Shard(NamedTuple):
  """Where a shard is."""

  index: int
  count: int
  facts: dict[str, Any]  # see `KIND`

  @property
  def share(self) -> float:
    """The share of its updates that is finished, begun ones in part."""
    return self._done / max(1, self.facts['updates'])

  @property
  def seconds_left(self) -> float:
    """The seconds that are left at the pace of its process; NaN if unknown."""
    facts = self.facts
    pace = self._done - facts['before']
    if facts['state'] != 'running' or pace <= 0:
      return math.nan
    elapsed = max(0.0, facts['written'] - facts['started'])
    return max(0.0, facts['updates'] - self._done) * elapsed / pace

  def is_gone(self) -> bool:
    """Returns whether its process ended without saying so, as far as known."""
    facts = self.facts
    if facts['state'] != 'running' or facts['host'] != socket.gethostname():
      return False
    try:
      os.kill(facts['pid'], 0)
    except ProcessLookupError:
      return True
    except PermissionError:  # somebody else's
      pass
    return False

  @property
  def _done(self) -> float:
    facts = self.facts
    begun = facts['running'] * facts['step'] / max(1, facts['steps'])
    return facts['finished'] + begun


class Progress:
  """Writes how far a shard is, as long as the `with` lasts; a hook as well.

  Args:
    folder: the workdir, None for a process that only computes.
    shard: (i, n).
    updates: the number of updates of the shard.
    left: how many of these are left.
  """

  def __init__(
    self,
    folder: pathlib.Path | None,
    shard: tuple[int, int],
    updates: int,
    left: int,
  ):
    self._folder = folder and folder / 'progress'
    self._name = '{}-of-{}.json'.format(*shard)
    self._due, self._told = 0.0, False
    finished = updates - left
    self._facts = {
      'host': socket.gethostname(),
      'pid': os.getpid(),
      'state': 'running',
      'error': '',
      'updates': updates,
      'finished': finished,
      'before': finished,
      'running': 0,
      'step': 0,
      'steps': 0,
      'started': time.time(),
      'written': 0.0,
    }

  def begins(self, updates: int) -> None:
    """Notes that a part of so many updates begins."""
    self._facts |= {'running': updates, 'step': 0, 'steps': 0}
    self._write()

  def ends(self) -> None:
    """Notes that this part is finished."""
    self._facts['finished'] += self._facts['running']
    self._facts |= {'running': 0, 'step': 0, 'steps': 0}
    self._write()

  def __call__(self, status: hooks.Status) -> None:
    """Notes the step."""
    self._facts |= {'step': status.step, 'steps': status.steps}
    if time.monotonic() >= self._due:
      self._write()

  def __enter__(self) -> 'Progress':
    """Writes that the shard is running."""
    if self._folder:
      with workdir.writing(self._folder):
        self._folder.mkdir(exist_ok=True)
    self._write()
    return self

  def __exit__(self, kind, error, trace) -> None:
    """Writes how it ended."""
    state = 'done' if error is None else 'failed'
    if isinstance(error, signals.Interrupted):
      state = 'stopped'
    lines = str(error or '').strip().splitlines()
    said = lines[-1] if lines else '' if error is None else kind.__name__
    self._facts |= {'state': state, 'error': said}
    self._write()

  def _write(self) -> None:
    if self._folder is None:
      return
    self._facts['written'] = time.time()
    self._due = time.monotonic() + _EVERY
    text = json.dumps(self._facts)
    try:
      workdir.write_text(self._folder / self._name, text)
    except ValueError as error:  # what is attacked matters more
      if not self._told:
        _log.warning('going on without progress: %s', error)
      self._told = True


def shards(folder: pathlib.Path) -> list[Shard]:
  """Returns where the shards of a workdir are, in order.

  Of shards of several splits, those of the one that was written last count.

  Args:
    folder: the workdir.

  Raises:
    ValueError: a file of another form.
  """
  found = []
  for path in sorted((folder / 'progress').glob('*.json')):
    if _NAME.fullmatch(path.stem):
      index, count = map(int, path.stem.split('-of-'))
      facts = records.read(path, KIND, 'remove it')
      if not 0 <= facts['started'] <= _LATEST >= facts['written'] >= 0:
        raise ValueError(
          f'Expected {path} to hold times; got {facts["started"]} and '
          f'{facts["written"]}; remove it'
        )
      found.append(Shard(index, count, facts))
  return sorted(_latest(found))


def describe(shard: Shard) -> str:
  """Returns where a shard is, in words."""
  facts = shard.facts
  text = f'{facts["finished"]} of {facts["updates"]} updates, '
  if shard.is_gone():
    return text + 'ended without a word; the same command continues'
  silent = tqdm.tqdm.format_interval(max(0, time.time() - facts['written']))
  if facts['state'] != 'running':
    error = f': {facts["error"]}' if facts['error'] else ''
    return f'{text}{facts["state"]} {silent} ago{error}'
  if facts['steps']:
    text += f'step {facts["step"]} of {facts["steps"]} of the next '
    text += f'{facts["running"]}, '
  return f'{text}running, heard {silent} ago{left([shard])}'


def left(shards: Sequence[Shard]) -> str:
  """Returns the time that the slowest of some shards needs, if it is known."""
  known = [s.seconds_left for s in shards if not math.isnan(s.seconds_left)]
  most = max(known, default=math.nan)
  if math.isnan(most):
    return ''
  return f', {tqdm.tqdm.format_interval(most)} left'


def _latest(found: Sequence[Shard]) -> list[Shard]:
  if not found:
    return []
  last = max(found, key=lambda shard: shard.facts['written'])
  return [shard for shard in found if shard.count == last.count]
