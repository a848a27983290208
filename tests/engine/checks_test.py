"""Tests of what is found about a received update before it is attacked."""

import captures
import pytest

from giajax.engine import build

pytest.importorskip('torch', reason='needs the extra torch')
_NET = """
import torch

net = torch.nn.Sequential(
  torch.nn.Conv2d(3, 4, 3, stride=3),
  torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4)),
  torch.nn.Flatten(),
  torch.nn.Linear(16, 16),
)
for part in (net[1], net[3].bias):
  part.requires_grad_(False)
"""


@pytest.fixture
def model(tmp_path):
  """Returns the entry of a network of torch that trains a part of itself."""
  path = tmp_path / 'partly.py'
  path.write_text(_NET)
  return {'name': f'{path}:net'}


def test_parameters_that_torch_would_not_train(tmp_path, model):
  captures.write(tmp_path, model=model)
  _, untrained, fit = build.experiment(
    captures.config(tmp_path, model=model)
  ).checks
  assert untrained.startswith('5 of 8 parameters require no gradient in torch')
  assert '--freeze=1.*,3.bias,' in untrained
  assert 'reproduces the update' in fit


def test_what_is_frozen_is_not_named(tmp_path, model):
  captures.write(tmp_path, model=model)
  freeze = {'include': ('*',), 'freeze': ('1.*', '3.bias')}
  config = captures.config(tmp_path, model=model, trainable=freeze)
  assert not any('no gradient' in c for c in build.experiment(config).checks)
