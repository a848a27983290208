"""A private Slurm on this machine, which ends with the test that uses it."""

from collections.abc import Iterator
import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import tiny

_PROGRAMS = (
  *('munged', 'slurmctld', 'slurmd', 'slurmstepd'),
  *('sbatch', 'scancel', 'scontrol', 'sinfo', 'squeue', 'srun'),
)
# Debian keeps slurmstepd, and others their daemons, where no user looks.
_PLACES = ('/usr/sbin', '/usr/lib/slurm-wlm/sbin', '/usr/local/sbin')
_CONF = """
ClusterName=loopback
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
SlurmdTimeout=2
MessageTimeout=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,\
batch_sched_delay=0
PartitionName=batch Nodes=ALL Default=YES PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""
_NODE = (
  'NodeName=node{i} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} '
  'CPUs=2 RealMemory=4000\n'
)


def lacking() -> str:
  """Returns why no Slurm can be started here, '' if one can."""
  missing = [name for name in _PROGRAMS if not _found(name)]
  if missing:
    return f'needs the daemons of Slurm; {", ".join(missing)} is not installed'
  return ''


class Cluster:
  """A Slurm that runs.

  Attributes:
    environment: the variables of whoever asks it for something.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._daemons: dict[str, subprocess.Popen] = {}
    conf = folder / 'slurm.conf'
    path = os.pathsep.join([os.environ.get('PATH', ''), *_PLACES])
    self.environment = {**os.environ, 'SLURM_CONF': str(conf), 'PATH': path}

  def start(self, nodes: int) -> None:
    """Starts the daemons, and returns when all nodes are idle."""
    for name in ('munge', 'state', *(f'spool-node{i}' for i in range(nodes))):
      (self._folder / name).mkdir()
    key = self._folder / 'munge' / 'key'
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    port = tiny.port()
    text = _CONF.format(folder=self._folder, user=getpass.getuser(), port=port)
    lines = [_NODE.format(i=i, port=tiny.port()) for i in range(nodes)]
    (self._folder / 'slurm.conf').write_text(''.join(lines) + text)
    options = [
      f'--{name}-file={self._folder}/munge/{name}'
      for name in ('key', 'pid', 'log', 'seed')
    ]
    socket = f'--socket={self._folder}/munge/socket'
    self._daemon('munged', '--foreground', '--force', socket, *options)
    self._daemon('slurmctld', '-D', '-c')
    for i in range(nodes):
      self.start_node(i)
    self.wait(lambda: self.ask('sinfo', '-hNt', 'idle').count('\n') >= nodes)

  def start_node(self, i: int) -> None:
    """Starts the daemon of a node."""
    self._daemon('slurmd', '-D', '-N', f'node{i}')

  def kill_node(self, i: int) -> None:
    """Ends a node as a loss of power does: its daemon and what runs there."""
    daemon = self._daemons.pop(f'node{i}')
    daemon.kill()
    daemon.wait()
    there = self.processes(f'SLURMD_NODENAME=node{i}')
    _kill({*map(_parent, there)} & {*self.processes()})  # who would report it
    _kill(there)

  def ask(self, *words: str) -> str:
    """Runs a command of Slurm's and returns what it prints, if it can."""
    done = subprocess.run(
      words, env=self.environment, capture_output=True, text=True, timeout=30
    )
    return done.stdout

  def wait(self, condition, seconds: float = 60.0) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < end, self._state()
      time.sleep(0.05)

  def stop(self) -> None:
    """Ends every job and every daemon, whatever state they are in."""
    for daemon in self._daemons.values():  # or they would start further tasks
      daemon.kill()
      daemon.wait()
    _kill(self.processes(f'SLURM_CONF={self._folder}/slurm.conf'))

  def _daemon(self, program: str, *words: str) -> None:
    name = words[-1] if program == 'slurmd' else program
    with open(self._folder / f'{name}.log', 'ab') as log:
      self._daemons[name] = subprocess.Popen(
        [str(_found(program)), *words],
        env=self.environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
      )

  def processes(self, *variables: str) -> list[int]:
    """Returns the processes of jobs that have such variables, NAME=VALUE."""
    own = {os.getpid(), *(daemon.pid for daemon in self._daemons.values())}
    mine = f'SLURM_CONF={self._folder}/slurm.conf'
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
      with contextlib.suppress(OSError):
        there = path.read_bytes().split(b'\0')
        if all(text.encode() in there for text in (mine, *variables)):
          found.append(int(path.parent.name))
    return [pid for pid in found if pid not in own]

  def _state(self) -> str:
    logs = [path.read_text()[-2000:] for path in self._folder.glob('*.log')]
    return '\n'.join([self.ask('sinfo', '-N'), self.ask('squeue'), *logs])


@contextlib.contextmanager
def running(nodes: int) -> Iterator[Cluster]:
  """Starts a Slurm with nodes of two cores each, and ends it.

  Args:
    nodes: their number.
  """
  # The name of a socket is short, and munged wants no folder of others'.
  with tempfile.TemporaryDirectory(prefix='slurm-', dir='/tmp') as name:
    os.chmod(name, 0o755)
    cluster = Cluster(pathlib.Path(name))
    try:
      cluster.start(nodes)
      yield cluster
    finally:
      cluster.stop()


def _found(program: str) -> str | None:
  path = os.pathsep.join([os.environ.get('PATH', ''), *_PLACES])
  return shutil.which(program, path=path)


def _parent(pid: int) -> int:
  """Returns the parent of a process, 0 if it has ended."""
  with contextlib.suppress(OSError):
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    return int(stat.rpartition(')')[2].split()[1])
  return 0


def _kill(pids) -> None:
  for pid in pids:
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, signal.SIGKILL)
