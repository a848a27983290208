"""Real runs of Flower on this machine, whose replies `capture.watch` writes.

One client trains a small torch network: by messages through a SuperLink and a
SuperNode, by lists of arrays in the same place, and, for two rounds, by the
functions of Flower's first years. Everything listens on 127.0.0.1 alone.
"""

import contextlib
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest

from giajax import capture
from giajax.battery import audit
from giajax.engine import build

_WHY = 'needs Flower and torch; install giajax[peers]'
pytest.importorskip('flwr', reason=_WHY)
torch = pytest.importorskip('torch', reason=_WHY)

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PATIENCE = 60  # seconds for one step of a run, which takes a few
_ROUNDS = 2  # of the first years' functions, which start no process for each
_CLIENT = {
  'name': 'fedavg',
  'learning_rate': 0.1,
  'epochs': 2,
  'train_mode': True,
}
# Torch trains here and in the client's process with another number of threads.
_NEAR = dict(rtol=1e-6, atol=1e-7)

# What is trained, in every app.
_TASK = """
import torch
from torch import nn


class Net(nn.Module):
  def __init__(self):
    super().__init__()
    self.conv = nn.Conv2d(3, 6, 3, 2, 1)
    self.bn = nn.BatchNorm2d(6)
    self.fc = nn.Linear(6, 4)

  def forward(self, x):
    return self.fc(torch.sigmoid(self.bn(self.conv(x))).mean((2, 3)))


def first():
  torch.manual_seed(0)
  return Net()


def batch():
  torch.manual_seed(1)
  return torch.rand(5, 3, 8, 8), torch.arange(5) % 4


def train(state):
  torch.set_num_threads(1)
  net = Net()
  net.load_state_dict(state)
  net.train()
  x, y = batch()
  optimiser = torch.optim.SGD(net.parameters(), 0.1)
  for _ in range(2):
    optimiser.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimiser.step()
  return net.state_dict()


def arrays(state):
  return [value.numpy() for value in state.values()]


def state(arrays):
  names = first().state_dict()
  return dict(zip(names, [torch.tensor(array) for array in arrays]))
"""
# The same network in giajax.
_TWIN = """
from flax import nnx
import jax
from giajax.models import layers
from giajax.models.parts import norms


class Net(nnx.Module):
  def __init__(self, *, rngs):
    self.conv = layers.Conv(3, 6, 3, 2, 1, rngs=rngs)
    self.bn = norms.BatchNorm(6, rngs=rngs)
    self.fc = layers.Linear(6, 4, rngs=rngs)

  def __call__(self, x):
    return self.fc(jax.nn.sigmoid(self.bn(self.conv(x))).mean((1, 2)))
"""

_MESSAGES = {
  'server': """
import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from PACKAGE import task
from giajax import capture

app = ServerApp()


@app.main()
def main(grid, context):
  strategy = FedAvg(
    fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1
  )
  strategy = capture.watch(strategy, FOLDER, **ABOUT)
  arrays = ArrayRecord(task.first().state_dict())
  found = strategy.start(grid, arrays, num_rounds=ROUNDS)
  after = {name: array.numpy() for name, array in found.arrays.items()}
  np.savez(FOLDER + '_after.npz', **after)
""",
  'client': """
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from PACKAGE import task

app = ClientApp()


@app.train()
def train(message, context):
  state = task.train(message.content['arrays'].to_torch_state_dict())
  metrics = MetricRecord({'num-examples': 5, 'loss': 0.5})
  content = RecordDict({'arrays': ArrayRecord(state), 'metrics': metrics})
  return Message(content=content, reply_to=message)
""",
}
# What both of the other apps have in common.
_STRATEGY = """
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerConfig
from flwr.server.strategy import FedAvg
from PACKAGE import task
from giajax import capture


def strategy():
  state = task.first().state_dict()
  return capture.watch(
    FedAvg(
      fraction_evaluate=0.0,
      min_fit_clients=1,
      min_available_clients=1,
      initial_parameters=ndarrays_to_parameters(task.arrays(state)),
    ),
    FOLDER,
    names=list(state),
    **ABOUT,
  )
"""
_FIT = """
from flwr.client import NumPyClient
from PACKAGE import task


class Client(NumPyClient):
  def fit(self, parameters, config):
    return task.arrays(task.train(task.state(parameters))), 5, {}
"""
_PARAMETERS = {
  'server': f"""
{_STRATEGY}
from flwr.server import ServerApp, ServerAppComponents

app = ServerApp(
  server_fn=lambda context: ServerAppComponents(
    strategy=strategy(), config=ServerConfig(num_rounds=ROUNDS)
  )
)
""",
  'client': f"""
{_FIT}
from flwr.client import ClientApp

app = ClientApp(client_fn=lambda context: Client().to_client())
""",
}
_FIRST_YEARS = {
  'server': f"""
{_STRATEGY}
import sys
from flwr.server import start_server

start_server(
  server_address=sys.argv[1],
  config=ServerConfig(num_rounds=ROUNDS),
  strategy=strategy(),
)
""",
  'client': f"""
{_FIT}
import sys
from flwr.client import start_client

start_client(
  server_address=sys.argv[1], client=Client().to_client(), insecure=True
)
""",
}
_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "PACKAGE"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "giajax"
flwr-version-target = "1.42.0"

[tool.flwr.app.components]
serverapp = "PACKAGE.server:app"
clientapp = "PACKAGE.client:app"
"""


class _Link(NamedTuple):
  """A running SuperLink with one SuperNode."""

  folder: pathlib.Path
  env: dict[str, str]


def _environment(home):
  """Returns the environment of Flower's programs: nothing is asked outside."""
  scripts = pathlib.Path(sys.executable).parent
  return {
    **os.environ,
    'PATH': f'{scripts}{os.pathsep}{os.environ["PATH"]}',
    'PYTHONPATH': str(_ROOT),
    'PYTHONUNBUFFERED': '1',
    'FLWR_HOME': str(home),
    'FLWR_TELEMETRY_ENABLED': '0',
    'FLWR_DISABLE_UPDATE_CHECK': '1',
    'FLWR_SUPEREXEC_TASK_POLL_INTERVAL': '0.1',
  }


def _ports(count):
  """Returns ports that are free now."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for one in sockets:
      one.bind(('127.0.0.1', 0))
    return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def _running(log, env, *words):
  """Runs a program, and ends it with all that it has started."""
  with open(log, 'wb') as file:
    process = subprocess.Popen(
      words, stdout=file, stderr=file, env=env, start_new_session=True
    )
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(env):
  """Ends what Flower's programs started in sessions of their own."""
  mark = f'FLWR_HOME={env["FLWR_HOME"]}\0'.encode()
  for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
    with contextlib.suppress(OSError):
      if mark in path.read_bytes():
        os.kill(int(path.parent.name), signal.SIGKILL)


def _wait(done, process, logs):
  """Waits until something is done, or fails with the ends of the logs."""
  end = time.monotonic() + _PATIENCE
  while not done():
    if process.poll() or time.monotonic() > end:
      tails = [f'{log.name}:\n{log.read_text("utf-8")[-3000:]}' for log in logs]
      pytest.fail('\n'.join([f'{process.args} did not do it', *tails]))
    time.sleep(0.1)


def _write_app(folder, package, parts, captures, rounds):
  """Writes the modules of an app, and returns its folder."""
  home = folder / package
  (home / package).mkdir(parents=True)
  about = {'client': _CLIENT, 'input_shape': [8, 8, 3], 'num_classes': 4}
  texts = {
    'pyproject.toml': _PROJECT,
    f'{package}/__init__.py': '',
    f'{package}/task.py': _TASK,
    **{f'{package}/{name}.py': text for name, text in parts.items()},
  }
  values = {
    'PACKAGE': package,
    'FOLDER': repr(str(captures)),
    'ABOUT': repr(about),
    'ROUNDS': str(rounds),
  }
  for name, text in texts.items():
    for key, value in values.items():
      text = text.replace(key, value)
    (home / name).write_text(text, encoding='utf-8')
  return home


def _is_open(port):
  with socket.socket() as one:
    return one.connect_ex(('127.0.0.1', port)) == 0


@pytest.fixture(scope='module')
def link(tmp_path_factory):
  """Runs a SuperLink and a SuperNode."""
  folder = tmp_path_factory.mktemp('flower')
  env = _environment(folder / 'home')
  (folder / 'home').mkdir()
  port, other = _ports(2)
  address = f'127.0.0.1:{port}'
  (folder / 'home' / 'config.toml').write_text(
    f'[superlink]\ndefault = "here"\n\n[superlink.here]\n'
    f'address = "{address}"\ninsecure = true\n'
  )
  common = ('--insecure', '--host', '127.0.0.1', '--port')
  logs = [folder / 'superlink.log', folder / 'supernode.log']
  with contextlib.ExitStack() as stack:
    stack.callback(_end, env)
    process = stack.enter_context(
      _running(
        logs[0],
        env,
        'flower-superlink',
        *common,
        str(port),
        '--disable-runtime-dependency-installation',
      )
    )
    _wait(lambda: _is_open(port), process, logs[:1])
    stack.enter_context(
      _running(
        logs[1],
        env,
        'flower-supernode',
        *common,
        str(other),
        '--superlink',
        address,
      )
    )
    yield _Link(folder, env)


def _run_app(link, package, parts, last):
  """Runs an app on a SuperLink, and returns the folder of its captures.

  Args:
    link: the SuperLink.
    package: the name of the app.
    parts: its modules.
    last: what is added to the name of that folder for a file at the end.
  """
  captures = link.folder / f'{package}_captures'
  home = _write_app(link.folder, package, parts, captures, 1)
  log = link.folder / f'{package}.log'
  words = ('flwr', 'run', str(home), 'here', '--stream')
  end = link.folder / f'{captures.name}{last}'
  logs = [log, *(link.folder / f'super{n}.log' for n in ('link', 'node'))]
  with _running(log, link.env, *words) as process:
    _wait(end.is_file, process, logs)
  return captures


def _run_first_years(folder):
  """Runs a server and a client of Flower's first years."""
  captures = folder / 'captures'
  home = _write_app(folder, 'firstyears', _FIRST_YEARS, captures, _ROUNDS)
  env = _environment(folder / 'home')
  env['PYTHONPATH'] = f'{home}{os.pathsep}{_ROOT}'
  (port,) = _ports(1)
  module = (sys.executable, '-m')
  logs = [folder / f'{name}.log' for name in ('server', 'client')]
  last = captures / f'round{_ROUNDS}-client0.safetensors'
  with contextlib.ExitStack() as stack:
    stack.callback(_end, env)
    for log in logs:
      name = f'firstyears.{log.stem}'
      words = (*module, name, f'127.0.0.1:{port}')
      process = stack.enter_context(_running(log, env, *words))
      if log.stem == 'server':
        _wait(lambda: _is_open(port), process, [log])
    _wait(last.is_file, process, logs)
  return captures


@pytest.fixture(scope='module')
def played():
  """Returns what is trained, and each round's weights before and after."""
  task = {}
  exec(_TASK, task)
  states = [task['first']().state_dict()]
  for _ in range(_ROUNDS):
    states.append(task['train'](states[-1]))
  numbers = [{n: v.numpy() for n, v in s.items()} for s in states]
  return task, [*itertools.pairwise(numbers)]


def _check(captures, played, rounds):
  """Compares captures with what the client did, and returns their paths."""
  _, steps = played
  names = [f'round{i + 1}-client0.safetensors' for i in range(rounds)]
  assert sorted(path.name for path in captures.iterdir()) == names
  for number, (name, (sent, received)) in enumerate(zip(names, steps), 1):
    found = capture.load(captures / name)
    assert found.about.pop('node')
    assert found.about == {
      'form': 'weights',
      'examples': 5,
      'round': number,
      'client': _CLIENT,
      'input_shape': [8, 8, 3],
      'num_classes': 4,
    }
    assert not found.truth
    for part, wanted in ((found.sent, sent), (found.received, received)):
      assert part.keys() == wanted.keys()
      for key, value in part.items():
        assert value.shape == wanted[key].shape
        np.testing.assert_allclose(value, wanted[key], **_NEAR, err_msg=key)
    assert found.received['bn.num_batches_tracked'].dtype == np.int64
  first = capture.load(captures / names[0])
  assert first.sent['bn.num_batches_tracked'].dtype == np.int64
  for key, value in steps[0][0].items():
    np.testing.assert_array_equal(first.sent[key], value)
  return [captures / name for name in names]


def _check_audits(paths, played, folder):
  """Checks that giajax's client does with the images what Flower's did."""
  x, y = played[0]['batch']()
  truth = folder / 'truth.npz'
  np.savez(truth, x=x.permute(0, 2, 3, 1).numpy(), y=y.numpy())
  (folder / 'twin.py').write_text(_TWIN, encoding='utf-8')
  for path in paths:
    config = audit.config_of(
      model={'name': f'{folder / "twin.py"}:Net'},
      capture=str(path),
      truth=str(truth),
    )
    found = build.experiment({**config, 'threat': {'grants': ['labels']}})
    assert 'reproduces the update' in found.checks[0]
    error = float(found.checks[0].split('error of ')[1].split()[0].rstrip('.'))
    assert error < 1e-4


def test_messages(link, played, tmp_path):
  captures = _run_app(link, 'bymessages', _MESSAGES, '_after.npz')
  (path,) = _check(captures, played, 1)
  _check_audits([path], played, tmp_path)
  received = capture.load(path).received  # the mean of one client's weights
  with np.load(f'{captures}_after.npz') as after:
    for name, value in received.items():
      np.testing.assert_array_equal(after[name], value)


def test_lists_of_arrays(link, played, tmp_path):
  captures = _run_app(
    link, 'bylists', _PARAMETERS, '/round1-client0.safetensors'
  )
  _check_audits(_check(captures, played, 1), played, tmp_path)


def test_functions_of_the_first_years(played, tmp_path):
  _check(_run_first_years(tmp_path), played, _ROUNDS)
