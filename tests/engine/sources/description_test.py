"""Tests of descriptions of clients: a wrong one is found, and mended."""

import captures
import numpy as np
import pytest

from giajax.engine import build
from giajax.engine.sources import description


def _check(folder, images=1, **client):
  described = {**captures.CLIENT, **client}
  config = captures.config(folder, images=images, client=described)
  (text,) = build.experiment(config).checks
  return text


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the folder of a capture of two images in two steps."""
  path = tmp_path_factory.mktemp('capture')
  captures.write(path, 2, client=captures.CLIENT | {'momentum': 0.9}, key=1)
  return path


def test_right_description(folder):
  text = _check(folder, 2, momentum=0.9)
  assert 'reproduces the update' in text and 'fits' not in text


@pytest.mark.parametrize(
  ('wrong', 'found'),
  [
    ({'learning_rate': 0.05}, 'learning_rate=0.1'),
    ({'learning_rate': 0.03}, 'a factor of 3.333 (learning_rate=0.1)'),
  ],
)
def test_wrong_rate_is_named(tmp_path, wrong, found):
  captures.write(tmp_path)
  text = _check(tmp_path, **wrong)
  assert found in text and 'It fits' in text


def test_wrong_momentum_is_named(tmp_path):
  client = {**captures.CLIENT, 'epochs': 3, 'learning_rate': 0.02}
  captures.write(tmp_path, client={**client, 'momentum': 0.9})
  assert 'momentum=0.9' in _check(tmp_path, epochs=3, learning_rate=0.02)


def test_wrong_epochs_are_named(tmp_path):
  captures.write(tmp_path, client={**captures.CLIENT, 'epochs': 2})
  assert 'epochs=2' in _check(tmp_path)


def test_wrong_normalisation_is_named(tmp_path):
  captures.write(tmp_path)
  model = {**captures.MODEL, 'normalisation': 'cifar10'}
  captures.write(tmp_path, model=model)
  assert "normalisation='cifar10'" in _check(tmp_path)


def test_other_order_is_found(tmp_path):
  client = {**captures.CLIENT, 'batch_size': 1}
  texts = []
  for key in range(4):  # both orders occur
    captures.write(tmp_path, 2, client=client, key=key)
    texts.append(_check(tmp_path, 2, batch_size=1))
  assert all('fits' not in text for text in texts)
  assert len({text.partition('order')[2] for text in texts}) == 2


@pytest.mark.parametrize('wrong', [{'learning_rate': 0.2}, {'momentum': 0.9}])
def test_mistakes_beside_an_order_that_is_not_known(tmp_path, wrong):
  client = {**captures.CLIENT, 'batch_size': 2}
  captures.write(tmp_path, 4, client=client, key=3)
  text = _check(tmp_path, 4, batch_size=2, **wrong)
  right = 'learning_rate=0.1' if 'learning_rate' in wrong else 'momentum=0.0'
  assert 'It fits' in text and right in text and 'in the order' in text


def test_orders_beyond_a_few_are_sampled():
  class Client:
    local_steps, epochs = 4, 1

  orders = description._orders(Client(), 8)
  assert len(orders) == 24 and orders[0].tolist() == [*range(8)]
  assert len({o[0] for o in orders}) > 4
  assert len(description._orders(Client(), 3)) == 6


def test_reversed_sign_is_said(tmp_path):
  sent, received = captures.write(tmp_path)
  del sent, received
  (tmp_path / 'sent.npz').rename(tmp_path / 'x.npz')
  (tmp_path / 'received.npz').rename(tmp_path / 'sent.npz')
  (tmp_path / 'x.npz').rename(tmp_path / 'received.npz')
  assert 'the other sign' in _check(tmp_path)


def test_another_image_is_not_explained(tmp_path):
  captures.write(tmp_path)
  with np.load(tmp_path / 'truth.npz') as truth:
    x, y = truth['x'], truth['y']
  np.savez(tmp_path / 'truth.npz', x=x[:, ::-1], y=(y + 1) % captures.CLASSES)
  assert 'No usual mistake explains it' in _check(tmp_path)


def test_size_of_an_update_of_unknown_images(tmp_path):
  captures.write(tmp_path)
  config = captures.config(tmp_path, source={'truth': ''})
  (usual,) = build.experiment(config).checks
  assert 'times as large' in usual and 'unusual' not in usual
  config.client.learning_rate = 1e-5
  (unusual,) = build.experiment(config).checks
  assert 'unusual' in unusual
