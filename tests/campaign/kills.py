"""Kills a run at random moments, and lets it continue.

Half of the kills come after a random time, the others when something is being
written. A killed run may be killed again when it continues. In the end it has
to have the bits of a run that nobody disturbs.
"""

import pathlib
import time

import numpy as np

from tests.campaign import experiments
from tests.campaign import processes
from tests.campaign import tries

_MOST = 120.0  # seconds that a run may take
# What appears at a moment, as a pattern in the workdir.
_MOMENTS = (
  'config.json',
  'checkpoints/*/*tmp*',
  'checkpoints/*/1/commit_success.txt',
  'checkpoints/*/[3-9]/commit_success.txt',
  'parts/.*.partial',
  'parts/*.npz',
  '.recon.npz.*.partial',
  'results.jsonl',
  'report.html',
)


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Kills a run one to three times.

  Args:
    number: the number of the try, which chooses the experiment.
    lab: what it works with.
  """
  names = [*experiments.EXPERIMENTS]
  name = names[number % len(names)]
  experiment = experiments.experiment(name, lab)
  workdir = lab.own / 'run'
  arguments = f'--config={experiment.config}', f'--workdir={workdir}'
  moments, endings = [], []

  def made(verdict):
    what = f'{name}, killed at {" and ".join(moments) or "no moment"}'
    return tries.Try(what, verdict, len(moments), endings)

  for _ in range(lab.random.integers(1, 4)):
    moment = _moment(lab.random, experiment.seconds)
    seconds, until = _waiting(moment, workdir)
    began = time.monotonic()
    process = lab.start(*arguments, devices=experiment.devices)
    ending = process.ending(seconds, until)
    if ending is not None:  # it was faster
      endings.append(ending)
      return made(tries.compared(ending, workdir, experiment.bits))
    if time.monotonic() - began >= _MOST:
      endings.append(process.finished(0))
      return made('hang')
    moments.append(f'{moment:.2f} s' if isinstance(moment, float) else moment)
    process.killed()
  process = lab.start(*arguments, devices=experiment.devices)
  endings.append(process.finished(_MOST))
  return made(tries.compared(endings[-1], workdir, experiment.bits))


def _moment(random: np.random.Generator, seconds: float) -> float | str:
  if random.random() < 0.5:
    return random.uniform(0, seconds)
  return str(random.choice(_MOMENTS))


def _waiting(moment: float | str, workdir: pathlib.Path):
  """Returns how long to wait, and what for: what a former run left is old."""
  if isinstance(moment, float):
    return moment, lambda: False
  old = {*workdir.glob(moment)}
  return _MOST, lambda: any(path not in old for path in workdir.glob(moment))
