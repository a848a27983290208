"""Sends a signal to a command at a random moment.

The command, which is a whole process of Python here, has to end with 85 and
one line, or to have done everything. An audit then continues, to the bits of a
run that nobody disturbs.
"""

import re
import signal
import time

from tests.campaign import experiments
from tests.campaign import inputs
from tests.campaign import processes
from tests.campaign import tries

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST = 60.0  # seconds that an answer may take before it is a hang
_CAUGHT = re.compile(r'SigCgt:\s*(\w+)')


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Sends one signal; see `kills.attempt`."""
  names = [*COMMANDS]
  name = names[number % len(names)]
  words = COMMANDS[name](lab)
  sent = _SIGNALS[lab.random.integers(len(_SIGNALS))]
  seconds = lab.random.uniform(0, 8)
  process = processes.whole(lab, *words)
  began = time.monotonic()
  while not _watching(process.number) and process.ending(0) is None:
    if time.monotonic() - began > _MOST:
      raise RuntimeError(f'{name} never watches for signals')
  process.ending(seconds)
  process.send(sent)
  asked = time.monotonic()
  ending = process.finished(_MOST)
  ending = ending._replace(seconds=time.monotonic() - asked)
  what = f'{name}, {sent.name} after {seconds:.2f} s'
  endings = [ending]
  verdict = ending.verdict
  if name == 'audit' and verdict == 'stopped':
    experiment = experiments.experiment('one device', lab)
    endings.append(processes.whole(lab, *words).finished(120))
    last, run = endings[-1], lab.own / 'run'
    verdict = tries.compared(last, run, experiment.bits)
  return tries.Try(what, verdict, 1, endings[:1])


def _watching(number: int) -> bool:
  """Says whether a process has begun to watch for SIGHUP."""
  try:
    with open(f'/proc/{number}/status') as file:
      caught = _CAUGHT.search(file.read())
  except OSError:
    return False
  bits = int(caught[1], 16) if caught else 0
  return bool(bits >> (signal.SIGHUP - 1) & 1)


def _audit(lab: processes.Lab) -> list[object]:
  experiment = experiments.experiment('one device', lab)
  return [f'--config={experiment.config}', f'--workdir={lab.own / "run"}']


def _report(lab: processes.Lab) -> list[object]:
  return ['report', inputs.samples(lab).workdir]


def _train(lab: processes.Lab) -> list[object]:
  config = f'--config={inputs.samples(lab).config}'
  out = f'--out={lab.own / "weights.npz"}'
  return ['train', config, out, '--batch_size=2', '--epochs=2000', '--every=50']


def _verify(lab: processes.Lab) -> list[object]:
  own = inputs.samples(lab)
  return ['verify', f'--config={own.config}', f'--received={own.weights}']


def _craft(lab: processes.Lab) -> list[object]:
  config = f'--config={inputs.samples(lab).config}'
  out = f'--out={lab.own / "crafted.npz"}'
  return ['craft', config, out, inputs.CRAFTED, inputs.GRANTED]


def _list(lab: processes.Lab) -> list[object]:
  del lab
  return ['--list']


COMMANDS = {
  'audit': _audit,
  'report': _report,
  'train': _train,
  'verify': _verify,
  'craft': _craft,
  'list': _list,
}
