"""Tests of giajax.metrics.image_share."""

from flax import nnx
import jax
import numpy as np
import pytest
import tiny

from giajax.engine import run
from giajax.metrics import image_share
from giajax.models import base
from giajax.models import from_nnx
from giajax.models import layers
from giajax.report import report


class Dull(nnx.Module):
  """Units that hand on next to nothing of what they see."""

  def __init__(self, inputs, classes, rngs):
    self.hidden = layers.Linear(inputs, 8, rngs=rngs)
    self.fc = layers.Linear(8, classes, rngs=rngs)

  def __call__(self, x):
    return self.fc(5 + 1e-5 * self.hidden(layers.flatten(x)))


def dull(image_shape, num_classes):
  """Returns such a network."""
  spec = base.make_spec('dull', image_shape, num_classes, 'none')
  size = int(np.prod(image_shape))
  return from_nnx.from_nnx(lambda rngs: Dull(size, num_classes, rngs), spec)


def test_small_angles_keep_their_digits():
  u = {'a': np.array([1.0, 0.0]), 'b': np.array(0.0)}
  for angle in (1e-12, 1e-6, 1e-3, 1.0, 3.0):
    v = {'a': 7 * np.array([np.cos(angle), 0]), 'b': 7 * np.sin(angle)}
    found = image_share.image_share(u, v)
    assert found == pytest.approx(2 * np.sin(angle / 2) ** 2, rel=1e-6)
  # Squares of these would vanish in float32.
  low = jax.tree.map(lambda leaf: np.float32(1e-30 * leaf), u)
  assert image_share.image_share(low, u) == 0
  assert np.isnan(image_share.image_share(u, {'a': np.zeros(2), 'b': 0.0}))


@pytest.mark.parametrize(
  'client', [{'name': 'fedsgd'}, {'name': 'fedavg', 'learning_rate': 0.1}]
)
def test_it_is_of_the_clients_own_update(tmp_path, client):
  """A defence changes what an attack sees, and not this."""
  changes = dict(
    client=client, belief={'name': 'same'}, attack__num_steps=2, restarts=1
  )
  changes |= dict(image_share=True, noise_controls=0)
  plain = run.audit(tiny.config(**changes), tmp_path / 'plain')
  noise = {'name': 'gaussian_noise', 'scale': 1.0}
  kept = run.audit(tiny.config(**changes, defense=noise), tmp_path / 'kept')
  found = [[row['image_share'] for row in rows] for rows in (plain, kept)]
  np.testing.assert_allclose(*found)
  assert min(found[0]) > 1e-3 and max(found[0]) < 2
  assert found[0][0] != found[0][1]  # of another case


def test_an_update_without_its_image_is_not_called_safe(tmp_path):
  config = tiny.config(
    model={'name': 'tests.metrics.image_share_test:dull'},
    image_share=True,
    attack__num_steps=2,
    cases__count=1,
    restarts=1,
  )
  (row,) = run.audit(config, tmp_path)
  assert 0 < row['image_share'] < 1e-6
  assert row['verdict'] == 'resists'
  assert 'from that of noise by a cosine of' in row['reason']
  page = report.write(tmp_path).read_text()
  assert (
    'hardly differ from those of noise' in page and 'share of the image' in page
  )
