"""Runs an experiment and writes its report.

giajax --config=NAME --workdir=DIR [--config.KEY=VALUE] [--shard=I/N]
"""

import functools
import re

from giajax import paths
from giajax import printable
from giajax.commands import configs
from giajax.commands import flags
from giajax.commands import process
from giajax.engine import hooks
from giajax.engine import run as engine
from giajax.engine import schema
from giajax.engine import together
from giajax.engine import writers
from giajax.engine.remote import mirror
from giajax.report import report
from giajax.report import summary
from giajax.results import rows as result_rows

USAGE = 'giajax --config=NAME --workdir=DIR'
FLAGS = (
  flags.CONFIG,
  flags.WORKDIR,
  flags.FAIL_ON,
  flags.REDACT,
  flags.Flag('yes', 'Goes on, however many updates there are.', False, bool),
  flags.Flag('log', 'Writes the curve for tensorboard or wandb.', [], list),
  *flags.SPLIT,
)


def run(arguments: flags.Arguments) -> int:
  """Runs an audit and prints one line per row of its results."""
  values = arguments.values
  config = configs.load(arguments)
  if values.yes:
    own = schema.resolve(config)['run']
    config['run'] = {**own, 'most_updates': schema.MOST_UPDATES}
  summary.check_threshold(values.fail_on, config)
  shard = process.shard(values.shard)
  folder = mirror.working(values.workdir, shard, values.process)
  names = values.log if values.process == 0 else []
  written = [writers.writer(name, folder, shard) for name in names]
  place = values.coordinator, values.processes, values.process
  with together.joined(*place, values.join_seconds):
    rows = engine.audit(
      config,
      values.workdir,
      hooks=[hooks.progress(), *written],
      shard=shard,
      card=configs.card(arguments),
      # Without this flag, the command runs all that is left.
      command=re.sub(r' --?shard[= ]\S+', '', arguments.command),
      finish=functools.partial(report.write, redact=values.redact or None),
    )
  for line in result_rows.summary(rows):
    print(line)
  if rows:
    page = paths.below(values.workdir, 'report.html')
    print(printable.line(f'report: {page}'))
  elif values.process == 0:
    print('This shard is done; the last one to finish writes the report.')
  return summary.exit_code(rows, values.fail_on)
