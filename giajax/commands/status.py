"""Prints how far the runs in one or several workdirs are.

giajax status DIR...

A DIR is the workdir of a run, or a folder with workdirs somewhere in it, and
may be a URL. Each shard has a line: what is finished, whether it still runs,
and why it does not. Runs are not disturbed by this.
"""

import math
import pathlib
import time

import tqdm

from giajax import printable
from giajax.commands import flags
from giajax.engine import progress
from giajax.engine.remote import views
from giajax.results import gathered

USAGE = 'giajax status DIR...'
FLAGS = ()
_NEEDED = 'config.json', 'progress/*.json'
_SEEN = 'results.jsonl', 'summary.json'


def run(arguments: flags.Arguments) -> int:
  """Prints a line for each workdir and each of its shards."""
  with views.opened(arguments.words, 'DIR', _NEEDED, _SEEN) as found:
    for workdir in gathered.workdirs(found.folders):
      try:
        lines = _lines(workdir)
      except ValueError as error:  # of one workdir; the others follow
        lines = [f'{workdir}: {error}']
      for line in lines:
        print(printable.line(found.text(line)))
  return 0


def _lines(workdir: pathlib.Path) -> list[str]:
  if (workdir / 'summary.json').is_file():
    return [f'{workdir}: finished']
  if (workdir / 'results.jsonl').is_file():
    return [f'{workdir}: attacked, without a report']
  shards = progress.shards(workdir)
  if not shards:
    return [f'{workdir}: not begun']
  count = shards[0].count
  updates = sum(shard.facts['updates'] for shard in shards)
  done = sum(shard.share * shard.facts['updates'] for shard in shards)
  missing = sorted({*range(count)} - {shard.index for shard in shards})
  lines = [f'{workdir}: {done:.0f} of {updates} updates{_left(shards)}']
  lines += [f'  shard {s.index}/{count}: {_of_shard(s)}' for s in shards]
  lines += [f'  shard {i}/{count}: not begun' for i in missing]
  return lines


def _of_shard(shard: progress.Shard) -> str:
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
  return f'{text}running, heard {silent} ago{_left([shard])}'


def _left(shards: list[progress.Shard]) -> str:
  """Returns the time that the slowest of some shards needs, if it is known."""
  known = [s.seconds_left for s in shards if not math.isnan(s.seconds_left)]
  left = max(known, default=math.nan)
  if math.isnan(left):
    return ''
  return f', {tqdm.tqdm.format_interval(left)} left'
