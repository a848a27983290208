"""Tests of networks of torch and Keras that a config names by their file."""

import subprocess
import sys

import captures
import jax
import numpy as np
import pytest

from giajax import trees
from giajax.engine import build
from giajax.engine import systems

_TORCH = """
from torch import nn

class Net(nn.Module):
  def __init__(self, num_classes=3, width=4):
    super().__init__()
    self.fc = nn.Linear(12 * 12 * 3, width)
    self.head = nn.Linear(width, num_classes)

  def forward(self, x):
    return self.head(self.fc(x.flatten(1)).relu())

def make(width=4, num_classes=3):
  return Net(num_classes, width)

fixed = Net(5)
"""
_KERAS = """
import os
os.environ.setdefault('KERAS_BACKEND', 'jax')
import keras

def make(num_classes, width=4):
  return keras.Sequential([
    keras.Input((12, 12, 3)), keras.layers.Flatten(),
    keras.layers.Dense(width, 'relu'), keras.layers.Dense(num_classes)])
"""


def _net(tmp_path, library, text, name, classes=16, **options):
  pytest.importorskip(library, reason=f'needs {library}: giajax[peers]')
  path = tmp_path / f'my_{library}.py'
  if not path.exists():
    path.write_text(text)
  return systems.model(
    {'name': f'{path}:{name}', **options},
    image_shape=captures.SHAPE,
    num_classes=classes,
  )


@pytest.mark.parametrize('name', ['Net', 'make'])
def test_torch_classes_and_functions(tmp_path, name):
  net = _net(tmp_path, 'torch', _TORCH, name, width=6, normalisation='half')
  assert net.spec.num_classes == 16 and net.spec.mean == (0.5, 0.5, 0.5)
  leaves = trees.named_leaves(net.init(jax.random.key(0)).params)
  assert leaves['fc.kernel'].shape == (432, 6)
  again = _net(tmp_path, 'torch', _TORCH, name, width=6, normalisation='half')
  assert again.apply is net.apply  # nothing is exported twice
  other = _net(tmp_path, 'torch', _TORCH, name, width=6)
  for a, b in zip(
    *(jax.tree.leaves(n.init(jax.random.key(0))) for n in (net, other))
  ):
    np.testing.assert_array_equal(a, b)  # of one draw


def test_torch_module_of_a_file(tmp_path):
  assert _net(tmp_path, 'torch', _TORCH, 'fixed', 5).spec.num_classes == 5
  with pytest.raises(ValueError, match='the number of logits of fixed, 5'):
    _net(tmp_path, 'torch', _TORCH, 'fixed', 16)
  with pytest.raises(ValueError, match='width'):
    _net(tmp_path, 'torch', _TORCH, 'fixed', 5, width=3)


def test_keras_function(tmp_path):
  net = _net(tmp_path, 'keras', _KERAS, 'make', width=6)
  logits = net.apply(
    net.init(jax.random.key(0)), np.zeros((2, 12, 12, 3)) + 0.5
  )
  assert logits.out.shape == (2, 16)


def test_weights_that_were_drawn_are_a_part_of_the_run(tmp_path):
  pytest.importorskip('torch', reason='needs torch: giajax[peers]')
  path = tmp_path / 'my_torch.py'
  path.write_text(_TORCH)
  captures.write(tmp_path)
  config = captures.config(tmp_path, model={'name': f'{path}:Net'})
  config.source, config.weights.path = {'name': 'simulated'}, ''
  config.dataset = {'name': 'photographs', 'size': 12}
  inputs = build.experiment(config).inputs
  assert f'weights of {path}:Net' in inputs and str(path) in inputs


def test_weights_that_change_make_another_network(tmp_path):
  net = _net(tmp_path, 'torch', _TORCH, 'fixed', 5)
  import torch

  from giajax.engine import own_code

  module = own_code._home(f'{tmp_path}/my_torch.py:fixed', 'model')[0].fixed
  with torch.no_grad():
    module.head.weight.zero_()
  again = _net(tmp_path, 'torch', _TORCH, 'fixed', 5)
  kernels = [
    trees.named_leaves(n.init(jax.random.key(0)).params)['head.kernel']
    for n in (net, again)
  ]
  assert np.any(kernels[0]) and not np.any(kernels[1])


def test_weights_are_the_same_in_every_process(tmp_path):
  pytest.importorskip('torch', reason='needs torch: giajax[peers]')
  (tmp_path / 'own.py').write_text(
    'def late(num_classes=3):\n'
    '  from torch import nn\n'
    '  return nn.Sequential(nn.Flatten(), nn.Linear(432, num_classes))\n'
  )
  (tmp_path / 'top.py').write_text(
    'from torch import nn\n'
    'net = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))\n'
  )
  code = (
    'import jax, sys\n'
    'from giajax.engine import identity, systems\n'
    'for name in sys.argv[1:]:\n'
    '  net = systems.model({"name": name}, image_shape=(12, 12, 3),\n'
    '    num_classes=3)\n'
    '  print(identity.arrays(net.init(jax.random.key(0))))\n'
  )
  names = [f'{tmp_path}/own.py:late', f'{tmp_path}/top.py:net']
  sums = [
    subprocess.run(
      [sys.executable, '-c', code, *names],
      capture_output=True,
      check=True,
      text=True,
    ).stdout
    for _ in range(2)
  ]
  assert sums[0] == sums[1] and len(sums[0].split()) == 2
