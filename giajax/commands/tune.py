"""Chooses settings of an attack by its own score, with few steps for most.

giajax tune --config=NAME --workdir=DIR [--factor=3] [--config.KEY=VALUE]

The sweep of the config is over arguments of the attack. All settings are tried
for a few steps, a third of them for three times as many, and so on; the last
ones take all steps. A setting is judged by the distance that the attacker sees,
never by the truth. Each round is an experiment in a folder of its own, and the
report is that of the last one; the same command continues.
"""

from giajax import printable
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import halving
from giajax.engine import hooks
from giajax.engine import sweep
from giajax.report import report

USAGE = 'giajax tune --config=NAME --workdir=DIR'
FLAGS = (
  flags.CONFIG,
  flags.Flag('workdir', 'The folder, or URL, for the workdirs of the rounds.'),
  flags.Flag(
    'factor',
    'What the number of settings is divided by from one round to the next.',
    3,
    int,
    2,
  ),
)


def run(arguments: flags.Arguments) -> int:
  """Runs the rounds and prints the best setting of each."""
  values = arguments.values
  config = configs.load(arguments)
  rungs = halving.tune(
    config,
    values.workdir,
    factor=values.factor,
    hooks=[hooks.progress()],
    card=configs.card(arguments),
    command=arguments.command,
    finish=report.write,
  )
  settings = sweep.expand(config)
  for rung in rungs:
    print(printable.line(halving.describe(rung, settings)))
  spent = sum(rung.round.settings * rung.round.steps for rung in rungs)
  whole = len(settings) * rungs[-1].round.steps
  print(f'{spent / whole:.0%} of the steps that all settings would have taken')
  last = f'{values.workdir}/round_{len(rungs) - 1}/report.html'
  print(printable.line(f'report: {last}'))
  return 0
