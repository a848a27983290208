"""The connections between the processes of one run, and who has ended.

Process 0 listens at the coordinator's port, and every other process holds a
connection to it. A line is a word and, perhaps, a JSON text:

  process [I, N]    the first line of process I of N
  jax               the first line of a connection of JAX, whose bytes follow
  welcome           all are there
  (nothing)         a sign of life
  done              this process has nothing left to do
  failed "..."      why the run ended
  stopped           the run ended because this process was asked to stop

An end that was not announced, and silence, are failures as well. Process 0
passes each on to all.

Nothing tells a process from a stranger who says the same: the port is for
those who may end the run.

JAX's own connections go through the same port. JAX aborts a process at the
moment at which it loses process 0, with a trace and before Python can say why.
It is therefore connected to a relay in its own process, which stays.
"""

from collections.abc import Callable, Iterator
import contextlib
import ipaddress
import json
import os
import socket
import threading
import time
from typing import Any

from giajax import interrupts
from giajax import printable
from giajax.engine import signals

SILENCE = 15.0  # seconds without a sign of life, after which a process is lost
_BEAT = 2.0  # seconds between two signs of life
_NOTICE = 1.0  # seconds in which a failure reaches all
_GRACE = 3.0  # seconds that a failure gives the main thread to end by itself
_RETRY = 0.1  # seconds between two attempts to connect
_LONGEST = 1 << 16  # bytes of a line
_LOOPBACK = '127.0.0.1'
AGAIN = 'start all again by the same commands: they continue'


class Link:
  """What one process of a run hears of the others.

  Args:
    number: the number of this process.
    count: the number of processes.
    host: the machine of process 0.
    port: the port at which it listens.
  """

  def __init__(self, number: int, count: int, host: str, port: int):
    self._number, self._count = number, count
    self._coordinator = f'{host}:{port}'
    # Of the addresses of localhost, all processes take this one.
    local = host.lower() == 'localhost'
    self._host, self._port = _LOOPBACK if local else host, port
    self._news = threading.Condition()  # of what follows
    self._over = False  # here or elsewhere, by a failure or by a request
    self._failure = ''
    self._welcome = False
    self._done: set[int] = set()
    self._peers: dict[int, socket.socket] = {}
    self._sockets: list[socket.socket] = []
    self._listeners: list[threading.Thread] = []
    self._speaker = threading.Lock()  # held by who says why the run ended

  def open(self, seconds: float) -> str:
    """Meets the other processes; returns where JAX finds its service.

    Args:
      seconds: how long to wait for them.

    Raises:
      ValueError: a process is missing or does not fit.
      Interrupted: another one was asked to stop.
    """
    if self._number:
      relay = socket.create_server((_LOOPBACK, 0))
      self._dial(time.monotonic() + seconds)
      _start(self._relay, relay)
      _start(self._watch)
      self._await(lambda: self._welcome)
      return _name(relay)
    service = _bound()  # keeps the port of JAX's service free
    _start(self._serve, self._server(), service)
    _start(self._watch)
    if not self._await(lambda: len(self._peers) == self._count - 1, seconds):
      here = {0, *self._peers}
      missing = next(i for i in range(self._count) if i not in here)
      raise ValueError(
        f'Expected {self._count} processes within {seconds:g} s; got '
        f'{len(here)}, without process {missing}; start it by the same command '
        f'with --process={missing}, or raise --join_seconds'
      )
    self._welcome = True
    self._send('welcome')
    return _name(service)

  def check(self) -> None:
    """Raises what `finish` raises, if it is so."""
    self._await(lambda: True)

  def finish(self) -> None:
    """Returns when all processes have nothing left to do.

    Raises:
      ValueError: one of them ended before.
      Interrupted: one of them was asked to stop.
    """
    if self._number:
      self._send('done')
      self._await(lambda: 0 in self._done)
    else:
      self._await(lambda: len(self._done) == self._count - 1)
      self._send('done')

  def cause(self) -> str:
    """Returns why the run ended elsewhere, '' if it did not.

    What goes wrong here is often the echo of that. From now on, this thread
    says why the run ended.
    """
    self._ends_within(_NOTICE)
    self._speaker.acquire()  # never, where the process is ending
    return self._failure

  def fail(self, line: str) -> None:
    """Tells all processes why the run ended, unless it has already.

    Args:
      line: what each of them says, from 'Expected' on.
    """
    self._end(f'failed {json.dumps(line)}', line)

  def stop(self) -> bool:
    """Tells all processes that this one was asked to stop, as they are then.

    Returns:
      False: nothing is left to do here, see `interrupts.passed_to`.
    """
    self._speaker.acquire(blocking=False)  # no other thread says anything
    self._end('stopped')
    self.close()
    return False

  def close(self) -> None:
    """Returns when the others have heard all, or do not answer."""
    end = time.monotonic() + _NOTICE
    for peer in self._sockets:
      _shut(peer)
    for listener in self._listeners:
      listener.join(max(0.0, end - time.monotonic()))

  def _end(self, word: str, failure: str = '') -> None:
    """Has the run be over in all processes, unless it is already."""
    with self._news:
      if not self._over:
        self._send(word)  # before another thread ends this process
        self._over, self._failure = True, failure
        self._news.notify_all()

  def _await(
    self, ready: Callable[[], bool], seconds: float | None = None
  ) -> bool:
    """Waits until something is so; False if the time is over.

    Raises:
      ValueError: the run has failed in another process.
      Interrupted: another process was asked to stop.
    """
    with self._news:
      self._news.wait_for(lambda: self._over or ready(), seconds)
      if self._failure:
        raise ValueError(self._failure)
      if self._over:
        raise signals.Interrupted('asked to stop')
      return ready()

  def _ends_within(self, seconds: float) -> bool:
    with self._news:
      return self._news.wait_for(lambda: self._over, seconds)

  def _watch(self) -> None:
    """Sends signs of life, and ends the process if its main thread does not.

    That thread may be in a computation that waits for a lost process.
    """
    while not self._ends_within(_BEAT):
      self._send('')
    if self._failure:
      time.sleep(_GRACE)
    if self._speaker.acquire(blocking=False):
      self.close()
      if self._failure:
        interrupts.end(2, printable.line(self._failure))
      else:
        interrupts.end()

  # Connections.

  def _server(self) -> socket.socket:
    """Returns the socket of process 0, open on all addresses of its machine.

    It is open to this machine alone at `localhost` and at an address of the
    loopback. Other names are not looked up: many a machine finds its own one
    there, while others find it elsewhere.
    """
    try:
      if _is_loopback(self._host):
        family = socket.AF_INET6 if ':' in self._host else socket.AF_INET
        return socket.create_server((self._host, self._port), family=family)
      if socket.has_dualstack_ipv6():
        family, both = socket.AF_INET6, True
      else:
        family, both = socket.AF_INET, False
      return socket.create_server(
        ('', self._port), family=family, dualstack_ipv6=both
      )
    except OSError as error:
      raise ValueError(
        'Expected a --coordinator whose port is free on the machine of process '
        f'0; got {self._port}: {os.strerror(error.errno or 0)}; choose another '
        'one in all processes, and start one process 0'
      ) from error

  def _dial(self, end: float) -> None:
    """Connects to process 0, which may still have to start."""
    while True:
      try:
        peer = socket.create_connection(
          (self._host, self._port), max(_RETRY, end - time.monotonic())
        )
        if peer.getsockname() != peer.getpeername():  # nobody listens
          break
        peer.close()
      except OSError as error:
        if time.monotonic() > end:
          raise ValueError(
            f'Expected process 0 at --coordinator={self._coordinator}; got '
            f'{error.strerror or error}; start it by the same command with '
            '--process=0, or raise --join_seconds'
          ) from error
      time.sleep(_RETRY)
    _tell(peer, f'process {[self._number, self._count]}')
    self._hold(0, peer, peer.makefile('rb'))

  def _serve(self, server: socket.socket, service: socket.socket) -> None:
    for peer in _accepted(server):
      _start(self._greet, peer, service.getsockname())

  def _greet(self, peer: socket.socket, service: Any) -> None:
    """Finds out who has connected; nothing is said to strangers."""
    try:
      peer.settimeout(SILENCE)
      lines = peer.makefile('rb', buffering=0)  # JAX's bytes stay in the socket
      word, value = _parsed(lines.readline(_LONGEST))
    except (OSError, ValueError):
      peer.close()
      return
    if word == 'jax':
      _join(peer, service)
    elif word == 'process':
      number, count = value
      self._admit(number, count, peer)
    else:
      peer.close()

  def _admit(self, number: int, count: int, peer: socket.socket) -> None:
    """Holds a process, and ends the run if it does not fit."""
    problem = ''
    with self._news:
      if count != self._count:
        problem = (
          f'Expected one --processes in all processes, {self._count} as in '
          f'process 0; got {count} in process {number}; start process {number} '
          'by the same command'
        )
      elif number in self._peers:
        problem = (
          'Expected another --process in each process; got '
          f'--process={number} twice; number them from 0 to {count - 1}'
        )
      if not (problem and self._welcome):
        self._hold(number, peer, peer.makefile('rb'))
        if problem:  # before anybody sees that one more is there
          self.fail(problem)
        return
    # Whoever comes too late disturbs nobody.
    _tell(peer, f'failed {json.dumps(problem)}')
    _shut(peer)

  def _hold(self, number: int, peer: socket.socket, lines: Any) -> None:
    peer.settimeout(SILENCE)
    self._sockets.append(peer)
    self._listeners.append(_start(self._listen, number, peer, lines))
    with self._news:
      self._peers[number] = peer
      self._news.notify_all()

  def _listen(self, number: int, peer: socket.socket, lines: Any) -> None:
    what = f'process {number}'
    lost = f'the end of {what}; see what it printed last, and {AGAIN}'
    try:
      while line := lines.readline(_LONGEST):
        self._hear(number, *_parsed(line))
    except TimeoutError:
      lost = (
        f'no sign of {what} for {SILENCE:g} s; end it if it still runs, and '
        f'{AGAIN}'
      )
    except OSError:
      pass  # as its end
    except ValueError as error:
      lost = (
        f'{error} from what should be {what}; choose another port for '
        f'--coordinator, and {AGAIN}'
      )
    if number not in self._done:
      self.fail(
        f'Expected {self._count} processes until all are done; got {lost}'
      )
    _shut(peer)

  def _hear(self, number: int, word: str, value: Any) -> None:
    if word == 'failed':
      self.fail(value)
    elif word == 'stopped':
      self._end(word)
    with self._news:
      if word == 'done':
        self._done.add(number)
      self._welcome |= word == 'welcome'
      self._news.notify_all()

  def _send(self, line: str) -> None:
    for peer in [*self._sockets]:
      _tell(peer, line)

  def _relay(self, server: socket.socket) -> None:
    """Connects what JAX sends within this process to process 0."""
    for inner in _accepted(server):
      _start(_join, inner, (self._host, self._port), b'jax\n')


def _parsed(line: bytes) -> tuple[str, Any]:
  """Returns the word and the value of a line.

  Raises:
    ValueError: it is none of ours.
  """
  try:
    word, _, text = line.decode().partition(' ')
    word = word.rstrip('\n')
    value = json.loads(text) if text else None
    if line.endswith(b'\n') and _is_ours(word, value):
      return word, value
  except (ValueError, RecursionError):
    pass
  raise ValueError(f'{line[:40]!r}')


def _is_ours(word: str, value: Any) -> bool:
  """Returns whether a process of ours says such a line."""
  if word == 'process':
    whole = isinstance(value, list) and [*map(type, value)] == [int, int]
    return whole and 1 <= value[0] < value[1]
  if word == 'failed':
    return isinstance(value, str) and value.startswith('Expected')
  return word in ('', 'jax', 'welcome', 'done', 'stopped') and value is None


def _is_loopback(host: str) -> bool:
  """Returns whether a host is a machine's own address, written as such."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def _accepted(server: socket.socket) -> Iterator[socket.socket]:
  """Yields who connects, also after a moment without room for anybody."""
  while True:
    try:
      peer, _ = server.accept()
    except OSError:
      time.sleep(_RETRY)
    else:
      yield peer


def _tell(peer: socket.socket, line: str) -> None:
  with contextlib.suppress(OSError):  # its listener says that it is gone
    peer.sendall(f'{line}\n'.encode())


def _shut(peer: socket.socket, ways: int = socket.SHUT_WR) -> None:
  with contextlib.suppress(OSError):
    peer.shutdown(ways)


def _join(
  inner: socket.socket, address: tuple[str, int], greeting: bytes = b''
) -> None:
  """Copies bytes both ways between a socket and an address.

  It ends when the socket's peer does, to whom the loss of the address must not
  show.
  """
  with inner, contextlib.suppress(OSError), _connected(address) as outer:
    for one in (inner, outer):
      one.settimeout(None)
    outer.sendall(greeting)
    answers = _start(_copy, outer, inner)
    _copy(inner, outer)
    for one in (inner, outer):
      _shut(one, socket.SHUT_RDWR)
    answers.join()


def _connected(address: tuple[str, int]) -> socket.socket:
  """Returns a connection to where somebody listens soon.

  Raises:
    OSError: nobody does.
  """
  end = time.monotonic() + SILENCE
  while True:
    try:
      return socket.create_connection(address, SILENCE)
    except OSError:
      if time.monotonic() > end:
        raise
    time.sleep(_RETRY)


def _copy(source: socket.socket, target: socket.socket) -> None:
  """Copies bytes as long as there are any, be the target there or not."""
  with contextlib.suppress(OSError):
    while data := source.recv(1 << 16):
      with contextlib.suppress(OSError):
        target.sendall(data)


def _bound() -> socket.socket:
  """Returns a socket whose free port a service of this process may share."""
  bound = socket.socket()
  bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
  bound.bind((_LOOPBACK, 0))
  return bound


def _name(bound: socket.socket) -> str:
  return ':'.join(map(str, bound.getsockname()))


def _start(function: Callable[..., Any], *args: Any) -> threading.Thread:
  thread = threading.Thread(target=function, args=args, daemon=True)
  thread.start()
  return thread
