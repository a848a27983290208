"""Tests of the connections between processes, with threads for these."""

from concurrent import futures
import socket
import threading
import time
from unittest import mock

import pytest
import tiny

from giajax.engine import link as links
from giajax.engine import signals

_STRANGE = (
  *(b'GET / HTTP/1.1\r\n', b'process 1\n', b'process [[]]\n', b'done\n'),
  *(b'process [7, 2]\n', b'process [0, 2]\n', b'process [-1, 2]\n'),
  *(b'process [1e999, 2]\n', b'process [1.0, 2]\n', b'process [true, 2]\n'),
  *(b'process [1, 2, 3]\n', b'process {}\n', b'process ["1", "2"]\n'),
)


@pytest.fixture(name='run')
def _run(monkeypatch):
  """Returns a function that opens links, of (process, processes), at a port.

  It returns the links and what `open` returned or complained of.
  """
  monkeypatch.setattr(links, '_BEAT', 0.1)
  monkeypatch.setattr(links, '_NOTICE', 0.1)
  monkeypatch.setattr(links, '_GRACE', 60.0)  # or it would end the tests
  every = []

  def attempt(link, seconds):
    try:
      return link.open(seconds)
    except ValueError as error:
      link.fail(str(error))  # as `together.joined` does
      return str(error)

  def run(*processes, port=None, seconds=10.0):
    port = port or tiny.port()
    made = [links.Link(*pair, 'localhost', port) for pair in processes]
    every.extend(made)
    with futures.ThreadPoolExecutor(len(made)) as pool:
      said = [*pool.map(lambda link: attempt(link, seconds), made)]
    return made, said

  yield run
  for link in every:
    link.fail('Expected a test; got its end; do no more')
    link._speaker.acquire(blocking=False)
    link.close()


def _said(link):
  """Returns what a link says of the end of the run."""
  end = time.monotonic() + 10
  while time.monotonic() < end:
    try:
      link.check()
    except ValueError as error:
      return str(error)
    time.sleep(0.01)
  return ''


def _hello(port, text=b'process [1, 2]\n'):
  """Says something to process 0, which may still have to start."""
  while True:
    try:
      peer = socket.create_connection(('127.0.0.1', port), 10)
      break
    except ConnectionRefusedError:
      time.sleep(0.01)
  peer.sendall(text)
  return peer


def _comes_true(condition):
  """Waits for a condition; False if it does not come about."""
  end = time.monotonic() + 10
  while not condition() and time.monotonic() < end:
    time.sleep(0.01)
  return condition()


def test_processes_meet_and_part(run):
  (first, *rest), said = run((0, 3), (2, 3), (1, 3))
  assert all(address.startswith('127.0.0.1:') for address in said)
  with futures.ThreadPoolExecutor(3) as pool:
    ends = [pool.submit(link.finish) for link in rest]
    time.sleep(0.1)
    assert not any(end.done() for end in ends)  # they wait for process 0
    first.finish()
    for end in ends:
      end.result(10)
  for link in (first, *rest):
    link.close()
    link.check()  # an end that was announced is none


@pytest.mark.parametrize(
  'processes, lines',
  [
    (
      ((0, 2),),
      (
        'Expected 2 processes within 1 s; got 1, without process 1; start it '
        'by the same command with --process=1, or raise --join_seconds',
      ),
    ),
    (
      ((0, 3), (1, 3)),
      2
      * (
        'Expected 3 processes within 1 s; got 2, without process 2; start it '
        'by the same command with --process=2, or raise --join_seconds',
      ),
    ),
    (
      ((1, 2),),
      (
        'Expected process 0 at --coordinator=localhost:{port}; got Connection '
        'refused; start it by the same command with --process=0, or raise '
        '--join_seconds',
      ),
    ),
    (
      ((0, 2), (1, 3)),
      2
      * (
        'Expected one --processes in all processes, 2 as in process 0; got 3 '
        'in process 1; start process 1 by the same command',
      ),
    ),
    (
      ((0, 3), (1, 3), (1, 3)),
      3
      * (
        'Expected another --process in each process; got --process=1 twice; '
        'number them from 0 to 2',
      ),
    ),
  ],
)
def test_processes_that_do_not_fit(run, processes, lines):
  port = tiny.port()
  _, said = run(*processes, port=port, seconds=1.0)
  assert said == [line.format(port=port) for line in lines]


def test_the_port_is_taken(run):
  with socket.create_server(('', 0)) as other:
    port = other.getsockname()[1]
    _, said = run((0, 2), port=port)
  assert said == [
    'Expected a --coordinator whose port is free on the machine of process 0; '
    f'got {port}: Address already in use; choose another one in all processes, '
    'and start one process 0'
  ]


def test_another_program_is_at_the_port(run):
  def answer(other):
    other.accept()[0].sendall(b'HTTP/1.1 400\r\n')

  other = socket.create_server(('localhost', 0))
  with other, futures.ThreadPoolExecutor(1) as pool:
    pool.submit(answer, other)
    _, (line,) = run((1, 2), port=other.getsockname()[1])
  assert line.startswith(
    "Expected 2 processes until all are done; got b'HTTP/1.1 400\\r\\n' from "
    'what should be process 0; choose another port for --coordinator'
  )


def test_strangers_and_latecomers_disturb_nobody(run, monkeypatch):
  raised = []
  monkeypatch.setattr('threading.excepthook', raised.append)
  port = tiny.port()
  with futures.ThreadPoolExecutor(1) as pool:
    started = pool.submit(run, (0, 2), port=port)
    for text in _STRANGE:
      with _hello(port, text) as stranger:
        assert not stranger.recv(1), text
    _, peers = run((1, 2), port=port)
    (first,), said = started.result(10)
  assert peers[0].startswith('127.0.0.1:') and said[0].startswith('127.0.0.1:')
  for text, word in ((b'[1, 2]', b'another'), (b'[1, 3]', b'one')):
    with _hello(port, b'process %b\n' % text) as late:
      line = late.makefile('rb').readline()
    assert line.startswith(b'failed "Expected %b --process' % word)
  first.check()
  assert not raised


@pytest.mark.parametrize(
  ('host', 'place'),
  [
    ('localhost', '127.0.0.1'),
    ('127.0.0.3', '127.0.0.3'),
    ('::1', '::1'),
    ('machine', '::'),  # whose name may be a loopback address here alone
  ],
)
def test_a_port_of_this_machine_is_open_to_it_alone(host, place):
  if ':' in place and not socket.has_dualstack_ipv6():
    pytest.skip('no IPv6 here')
  with links.Link(0, 2, host, tiny.port())._server() as server:
    assert server.getsockname()[0] == place


def test_a_moment_without_room_for_connections():
  full = OSError(24, 'Too many open files')
  server = mock.Mock(**{'accept.side_effect': [full, ('peer', 'address')]})
  assert next(links._accepted(server)) == 'peer'


def test_connections_to_jax_are_closed_when_they_are_over(run, monkeypatch):
  port = tiny.port()
  with futures.ThreadPoolExecutor(1) as pool:
    started = pool.submit(run, (0, 2), port=port)
    run((1, 2), port=port)
    _, (service,) = started.result(10)
  threads = threading.active_count()
  monkeypatch.setattr(links, 'SILENCE', 0.1)
  with _hello(port, b'jax\n') as peer:
    assert not peer.recv(1)  # there is no service
  monkeypatch.setattr(links, 'SILENCE', 10.0)
  with socket.socket() as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    host, number = service.split(':')
    server.bind((host, int(number)))
    server.listen()
    with _hello(port, b'jax\n'):
      inside, _ = server.accept()
    inside.settimeout(10)
    assert not inside.recv(1)
    inside.close()
  assert _comes_true(lambda: threading.active_count() == threads)


def test_what_ends_one_ends_all(run, monkeypatch):
  ended = []
  monkeypatch.setattr(links.interrupts, 'end', lambda *args: ended.append(args))
  every, _ = run((0, 3), (1, 3), (2, 3))
  monkeypatch.setattr(links, '_GRACE', 0.5)
  every[1].fail('Expected a; got b; do\nc')
  assert [_said(link) for link in every] == 3 * ['Expected a; got b; do\nc']
  assert _comes_true(lambda: len(ended) == 3)  # whatever their main threads do
  assert {*ended} == {(2, r'Expected a; got b; do\nc')}


@pytest.mark.parametrize('which', [0, 1])
def test_a_request_to_one_ends_all(run, monkeypatch, which):
  ended = []
  monkeypatch.setattr(links.interrupts, 'end', lambda *args: ended.append(args))
  every, _ = run((0, 3), (1, 3), (2, 3))
  assert every[which].stop() is False
  assert _comes_true(lambda: len(ended) == 2)  # the third ends behind `stop`
  assert ended == [(), ()]
  for link in every:
    with pytest.raises(signals.Interrupted, match='asked to stop'):
      link.check()


@pytest.mark.parametrize('text', ['"no line of ours"', '[]', ''])
def test_why_another_one_ended_is_always_a_line(run, text):
  port = tiny.port()
  with futures.ThreadPoolExecutor(1) as pool:
    started = pool.submit(run, (0, 2), port=port)
    with _hello(port, f'process [1, 2]\nfailed {text}\n'.encode()):
      (first,), _ = started.result(10)
      line = _said(first)
  assert line.startswith(
    "Expected 2 processes until all are done; got b'failed"
  )


@pytest.mark.parametrize('silent', [False, True])
def test_a_process_that_says_no_more(run, monkeypatch, silent):
  """One that was killed, and one that was stopped."""
  monkeypatch.setattr(links, 'SILENCE', 1.0)
  port = tiny.port()
  with futures.ThreadPoolExecutor(2) as pool:
    started = pool.submit(run, (0, 3), (2, 3), port=port)
    peer = _hello(port, b'process [1, 3]\n')
    both, _ = started.result(10)
  if not silent:
    peer.close()
  words = 'no sign of process 1 for 1 s' if silent else 'the end of process 1'
  for link in both:
    line = _said(link)
    assert line.startswith(
      f'Expected 3 processes until all are done; got {words};'
    )
    assert line.endswith('start all again by the same commands: they continue')
  peer.close()


def test_what_jax_sends_is_relayed_and_survives_process_0(run):
  _, (service, relay) = run((0, 2), (1, 2))
  with socket.socket() as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    host, port = service.split(':')
    server.bind((host, int(port)))
    host, port = relay.split(':')
    inside = socket.create_connection((host, int(port)))
    inside.sendall(b'ask')
    time.sleep(0.2)  # the service may start last
    server.listen()
    outside = server.accept()[0]
  assert outside.recv(10) == b'ask'
  outside.sendall(b'answer')
  assert inside.recv(10) == b'answer'
  outside.close()
  inside.settimeout(0.3)
  with pytest.raises(TimeoutError):  # and no end
    inside.recv(10)
  inside.close()
