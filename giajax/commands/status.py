"""Prints how far the runs in one or several workdirs are.

giajax status DIR...

A DIR is the workdir of a run, or a folder with workdirs somewhere in it, and
may be a URL. Each shard has a line: what is finished, whether it still runs,
and why it does not. Runs are not disturbed by this.
"""

import pathlib

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
  lines = [f'{workdir}: {done:.0f} of {updates} updates{progress.left(shards)}']
  lines += [
    f'  shard {s.index}/{count}: {progress.describe(s)}' for s in shards
  ]
  lines += [f'  shard {i}/{count}: not begun' for i in missing]
  return lines
