"""What several processes of one run agree on, and how they end together."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import os
import re
import socket
import sys

import jax
from jax.experimental import multihost_utils
import numpy as np

from giajax import interrupts
from giajax.engine import link as links
from giajax.engine import signals

_link: links.Link | None = None  # of this process to the others of its run


def check(coordinator: str, processes: int, process: int) -> tuple[str, int]:
  """Returns the host and the port of process 0.

  Where machines are started together, as in Kubernetes, the name of another one
  has an address only when that runs. Process 0 knows its own at once.

  Args:
    coordinator: host:port of process 0.
    processes: the number of processes.
    process: the number of this one, from 0.

  Raises:
    ValueError: a number that is too large, or no address.
  """
  if process >= processes:
    raise ValueError(
      f'Expected --process from 0 to {processes - 1} for '
      f'--processes={processes}; got --process={process}; give all processes '
      'the same --processes, and number them from 0'
    )
  host, _, port = coordinator.rpartition(':')
  host = host.removeprefix('[').removesuffix(']')  # of an IPv6 address
  number = int(port) if re.fullmatch('[0-9]{1,5}', port) else 0
  if not host or not 0 < number < 1 << 16:
    raise ValueError(
      'Expected --coordinator=HOST:PORT with a port from 1 to 65535; got '
      f'--coordinator={coordinator}; give all processes the address of '
      'process 0, for instance localhost:1234'
    )
  try:
    socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
  except (OSError, UnicodeError) as error:
    if process and isinstance(error, socket.gaierror):
      return host, number  # of a machine that may still have to start
    reason = getattr(error, 'strerror', None) or error
    raise ValueError(
      'Expected a --coordinator whose host has an address; got '
      f'--coordinator={coordinator}: {reason}; correct the name, or write '
      'the address itself'
    ) from error
  return host, number


@contextlib.contextmanager
def joined(
  coordinator: str, processes: int, process: int, seconds: float = 60.0
) -> Iterator[None]:
  """Joins the processes that run together, if there is more than one.

  What ends one of them ends all: a mistake in one is the line of each, and so
  is a request to stop, unless all of them are where they save first.

  Args:
    coordinator: host:port of process 0.
    processes: the number of processes.
    process: the number of this one, from 0.
    seconds: how long to wait for the others to start.

  Raises:
    ValueError: a flag that does not fit; a process that is missing; or why
      another process ended.
    Interrupted: another process was asked to stop.
  """
  global _link
  if processes == 1 and process == 0:
    yield
    return
  address = check(coordinator, processes, process)
  _link = link = links.Link(process, processes, *address)
  with interrupts.passed_to(link.stop):
    try:
      _start_jax(link.open(seconds), processes, process)
      stopped = None
      try:
        yield
      except signals.Interrupted as error:  # in all of them
        stopped = error
      link.finish()
    except BaseException as error:
      cause, own = link.cause(), str(error)
      alike = own and cause.startswith(own)
      if cause and not alike and isinstance(error, Exception):
        raise ValueError(cause) from error
      link.fail(_told(error, process))
      raise
  if stopped:
    raise stopped


def leave(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> None:
  """Runs a command line and ends the process with its exit code.

  JAX would wait for the other processes at the end of one that was joined to
  them, and abort where one is missing. They have agreed on their end, or one is
  missing: what JAX, and Python, do at the end of a process is left out.
  """
  try:
    sys.exit(main(argv))
  except BaseException as error:
    if _link is None:
      raise
    code = error.code if isinstance(error, SystemExit) else 1
    if not isinstance(error, SystemExit):
      sys.excepthook(type(error), error, error.__traceback__)
    _link.close()
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError):
        stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def agreed(values: Sequence[float]) -> np.ndarray:
  """Returns the largest of each value over processes, the same on all.

  Processes of one run must decide alike: when to stop, to save, and how many
  steps to take.
  """
  local = np.asarray(values, np.float32)
  if jax.process_count() == 1:
    return local
  return np.max(_gathered(local), axis=0)


def texts(own: str) -> list[str]:
  """Returns the text of each process of the run, in their order."""
  if jax.process_count() == 1:
    return [own]
  data = np.frombuffer(own.encode(), np.uint8)
  sizes = _gathered(np.asarray(data.size, np.int32))
  padded = np.zeros(int(np.max(sizes)), np.uint8)
  padded[: data.size] = data
  every = _gathered(padded)
  return [bytes(row[:size]).decode() for row, size in zip(every, sizes)]


def _gathered(local: np.ndarray) -> np.ndarray:
  """Returns the array of each process, stacked; fails if one has ended."""
  if _link:
    _link.check()
  return multihost_utils.process_allgather(local)


def _start_jax(address: str, processes: int, process: int) -> None:
  """Has JAX see the devices of all processes.

  Raises:
    ValueError: they have different numbers of devices.
  """
  # A proxy is for what is further away, and JAX warns of any.
  os.environ['no_grpc_proxy'] = address.partition(':')[0]  # noqa: SIM112
  jax.config.update('jax_check_proxy_envs', False)
  bound = None if process else address
  jax.distributed.initialize(
    address,
    processes,
    process,
    # In a job of Slurm, JAX would leave each process one of its devices.
    cluster_detection_method='deactivate',
    coordinator_bind_address=bound,
  )
  interrupts.renew()  # JAX takes SIGTERM for itself
  counts = np.bincount([device.process_index for device in jax.devices()])
  other = int(np.argmax(counts != counts[0]))
  if other:
    raise ValueError(
      f'Expected as many devices in all processes, {counts[0]} as in process '
      f'0; got {counts[other]} in process {other}; set JAX_NUM_CPU_DEVICES, or '
      'what else chooses devices, to the same value'
    )
  with _no_output():
    agreed((0.0,))  # connects the devices, which gloo reports


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
  """Discards what libraries write to standard output, whose lines are ours."""
  own, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 1)
  try:
    yield
  finally:
    os.dup2(own, 1)
    os.close(own)
    os.close(nowhere)


def _told(error: BaseException, process: int) -> str:
  """Returns what the other processes say of what ended this one."""
  text = str(error)
  if isinstance(error, ValueError) and text.startswith('Expected'):
    return f'{text} (in process {process})'
  lines = text.strip().splitlines()
  reason = (
    f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__
  )
  return (
    f'Expected processes that run until all are done; got {reason} in process '
    f'{process}; see what it printed, and {links.AGAIN}'
  )
