"""Fails one of two processes that run one audit together.

Each of the others has to end as well, with one line and within a minute, and
the same commands then have to come to the bits of a run that nobody disturbs.
"""

import contextlib
import signal
import socket

from tests.campaign import experiments
from tests.campaign import processes
from tests.campaign import tries

_NAME = 'one device'
_REQUESTS = (signal.SIGTERM, signal.SIGINT)
_JOIN = 20  # seconds that processes wait for each other to start
_MISSING = 'or raise --join_seconds\n'
_MOST = 60.0  # seconds from a fault to the end of all


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Makes one fault; see `kills.attempt`."""
  fault = FAULTS[number % len(FAULTS)]
  bits = _undisturbed(lab)
  what, survivors, verdicts = fault(lab)
  endings = [process.finished(_MOST) for process in survivors]
  processes.kill_all()  # one that was stopped, and whoever is left of a fault
  for ending in endings:
    # One that was asked to stop before it joined the other told it nothing.
    alone = ('refused',) if _MISSING in ending.errors else ()
    verdict = tries.expected(ending, *verdicts, *alone)
    if verdict in tries.BAD:
      return tries.Try(what, verdict, 1, endings)
  again = [process.finished(120) for process in _pair(lab)]
  for ending in again:
    if ending.verdict != 'accepted':
      verdict = tries.expected(ending, 'accepted')
      return tries.Try(what, verdict, 1, [*endings, *again])
  verdict = tries.compared(again[0], lab.own / 'run', bits)
  return tries.Try(what, verdict, 1, [*endings, *again])


def _undisturbed(lab: processes.Lab) -> str:
  """Returns the hash of the results of two processes."""
  workdir = lab.shared / 'together'
  if not workdir.exists():
    for process in _pair(lab, f'--workdir={workdir}'):
      ending = process.finished(120)
      if ending.verdict != 'accepted':
        raise RuntimeError(f'two processes fail undisturbed:\n{ending.errors}')
  return experiments.bits(workdir)


def _pair(lab: processes.Lab, *words: str) -> list[processes.Process]:
  port = _port()
  return [_start(lab, i, port, *words) for i in range(2)]


def _start(
  lab: processes.Lab, i: int, port: object, *words: str
) -> processes.Process:
  """Starts process i of two, in a new Python."""
  experiment = experiments.experiment(_NAME, lab)
  flags = [f'--config={experiment.config}', f'--workdir={lab.own / "run"}']
  flags += ['--processes=2', f'--process={i}', f'--join_seconds={_JOIN}']
  flags += [f'--coordinator=localhost:{port}']
  return lab.start_whole(*flags, *words)


def _port() -> int:
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    return probe.getsockname()[1]


def _ended(*signals: signal.Signals):
  """Returns a fault: a signal to one process at a random moment."""

  def fault(lab):
    sent = signals[lab.random.integers(len(signals))]
    victim = int(lab.random.integers(2))
    seconds = lab.random.uniform(0, 8)
    pair = _pair(lab)
    pair[victim].ending(_MOST, pair[victim].watches)
    pair[victim].ending(seconds)
    pair[victim].send(sent)
    what = f'{sent.name} to process {victim} after {seconds:.2f} s'
    if sent in _REQUESTS:
      return what, pair, ('stopped', 'accepted')
    return what, [pair[1 - victim]], ('refused', 'accepted')

  return fault


def _alone(lab):
  """One of the processes does not start."""
  i = int(lab.random.integers(2))
  process = _start(lab, i, _port())
  return f'process {i} alone', [process], ('refused',)


def _mistake(lab):
  """One process has another command line than the other."""
  words = _MISTAKES[lab.random.integers(len(_MISTAKES))]
  i, port = int(lab.random.integers(2)), _port()
  pair = [_start(lab, j, port, *(words if j == i else ())) for j in range(2)]
  return f'process {i} with {" ".join(words)}', pair, ('refused',)


def _address(lab):
  """An address that is none, or where somebody else listens."""
  port = _ADDRESSES[lab.random.integers(len(_ADDRESSES))]
  with contextlib.ExitStack() as stack:
    if port == 'taken':
      server = stack.enter_context(socket.create_server(('', 0)))
      port = server.getsockname()[1]
    process = _start(lab, 0, port)
    process.ending(_MOST)
  return f'a coordinator at port {port!r}', [process], ('refused',)


_MISTAKES = (
  ('--config.seed=1',),
  ('--config.seed=-1',),
  ('--config.model.name=nosuch',),
  ('--config.run.save_seconds=7.0',),
  ('--workdir=/dev/null/x',),
  ('--config=nosuch',),
  ('--shard=0/2',),
  ('--process=5',),
  ('--processes=3',),
)
_ADDRESSES = ('', 'x', '0', '99999', '-1', '1e3', 'taken')
FAULTS = (
  _ended(signal.SIGKILL),
  _mistake,
  _ended(*_REQUESTS),
  _ended(signal.SIGKILL),
  _ended(signal.SIGSTOP),
  _mistake,
  _address,
  _alone,
)
