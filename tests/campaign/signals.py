"""Sends a signal to a command at a random moment.

The command, which is a whole process of Python here, has to end with 85 and
one line, or to have done everything. An audit then continues, to the bits of a
run that nobody disturbs.
"""

import signal
import time

from tests.campaign import experiments
from tests.campaign import inputs
from tests.campaign import processes
from tests.campaign import tries

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_START = 60.0  # seconds until a process answers signals, at most
_MOST = 5.0  # seconds that an answer may take before it is a hang


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Sends one signal; see `kills.attempt`."""
  names = [*COMMANDS]
  name = names[number % len(names)]
  words = COMMANDS[name](lab)
  sent = _SIGNALS[lab.random.integers(len(_SIGNALS))]
  seconds = lab.random.uniform(0, 8)
  process = lab.start_whole(*words)
  process.ending(_START, process.watches)
  process.ending(seconds)
  what = f'{name}, {sent.name} after {seconds:.2f} s'
  asked = time.monotonic()
  if not process.send(sent):  # it was faster
    ending = process.finished()
    return tries.Try(what, tries.expected(ending, 'accepted'), 0, [ending])
  ending = process.finished(_MOST)
  endings = [ending._replace(seconds=time.monotonic() - asked)]
  verdict = tries.expected(ending, 'stopped', 'accepted')
  if any(lab.own.rglob('*.partial')):
    verdict = 'lost'
  if name == 'audit' and verdict == 'stopped':
    experiment = experiments.experiment('one device', lab)
    last = lab.start_whole(*words).finished(120)
    endings.append(last._replace(seconds=0.0))  # it was not asked to end
    verdict = tries.compared(last, lab.own / 'run', experiment.bits)
  return tries.Try(what, verdict, 1, endings)


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
