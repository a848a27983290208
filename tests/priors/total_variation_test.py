"""Tests of giajax.priors.total_variation and l2 against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import types
from giajax import world as worlds
from giajax.models import base as models
from giajax.models import from_callable
from giajax.priors import l2
from giajax.priors import patch
from giajax.priors import total_variation


def world(channels=1, normalisation='none'):
  spec = models.make_spec('spec', (4, 4, channels), 10, normalisation)
  net = from_callable.from_callable(lambda key: (), lambda params, x: x, spec)
  return worlds.World(net, None, None, 1)


def value(term, x):
  batch = types.Batch(jnp.asarray(x, jnp.float32), jnp.zeros(len(x), int))
  return term.value(jax.random.key(0), batch, None, None)


def edge(channels=1, channel=0):
  """One 4x4 image, its right half 1 in one channel."""
  x = np.zeros((1, 4, 4, channels), np.float32)
  x[:, :, 2:, channel] = 1
  return x


def dot():
  """One 4x4 image with one pixel lit, inside."""
  x = np.zeros((1, 4, 4, 1), np.float32)
  x[0, 1, 1] = 1
  return x


@pytest.mark.parametrize(
  ('x', 'p', 'q', 'expected'),
  [
    (edge(), 1, 1, 4 / 16),
    (edge(), 2, 0.5, 4 / 16),
    (0.5 * edge(), 2, 1, 4 / 4 / 16),
    (0.5 * edge(), 1, 2, 4 / 4 / 16),
    (dot(), 1, 1, 4 / 16),
    (dot(), 2, 0.5, (2 + np.sqrt(2)) / 16),
    (dot(), 2, 1, 4 / 16),
    (dot(), 1, 2, (1 + 1 + 4) / 16),
    (np.ones((1, 4, 4, 1)), 1, 1, 0),
  ],
)
@pytest.mark.parametrize('transpose', [False, True])
def test_by_hand(x, p, q, expected, transpose):
  term = total_variation.total_variation(world(), p=p, q=q)
  x = np.swapaxes(x, 1, 2) if transpose else x
  np.testing.assert_allclose(value(term, x), expected, rtol=1e-5, atol=1e-6)


def test_border_counts_nothing():
  x = np.zeros((1, 4, 4, 1), np.float32)
  x[0, -1, -1] = 1  # two neighbours only
  term = total_variation.total_variation(world())
  np.testing.assert_allclose(value(term, x), 2 / 16, rtol=1e-6)


def test_is_taken_of_the_normalised_image():
  term = total_variation.total_variation(world(1, 'half'))
  np.testing.assert_allclose(value(term, edge()), 2 * 4 / 16, rtol=1e-6)


@pytest.mark.parametrize('channel', [0, 1, 2])
def test_double_opponents(channel):
  """A lit channel differs from both others: three of six channels."""
  plain = total_variation.total_variation(world(3))
  double = total_variation.total_variation(world(3), double_opponents=True)
  x = edge(3, channel)
  np.testing.assert_allclose(value(plain, x), 4 / 48, rtol=1e-6)
  np.testing.assert_allclose(value(double, x), 3 * 4 / 96, rtol=1e-6)
  grey = np.repeat(edge(), 3, axis=-1)
  np.testing.assert_allclose(value(double, grey), 3 * 4 / 96, rtol=1e-6)


@pytest.mark.parametrize(
  ('p', 'q'), [(1, 1), (2, 0.5), (1, 0.5), (0.5, 1), (2, 1), (6, 0.1), (1, 2)]
)
def test_derivative_is_finite_where_pixels_agree(p, q):
  term = total_variation.total_variation(world(), p=p, q=q)
  for x in (np.full((1, 4, 4, 1), 0.3), edge(), dot()):
    slope = jax.grad(lambda x: value(term, x))(jnp.asarray(x, jnp.float32))
    assert np.isfinite(slope).all()


def test_derivative_by_hand():
  """A lit pixel inside lowers all four differences around it."""
  term = total_variation.total_variation(world())
  slope = jax.grad(lambda x: value(term, x))(jnp.asarray(dot()))
  expected = np.zeros((4, 4))
  expected[1, 1] = 4 / 16
  for i, j in ((0, 1), (1, 0), (1, 2), (2, 1)):
    expected[i, j] = -1 / 16
  np.testing.assert_allclose(slope[0, ..., 0], expected, atol=1e-6)


@pytest.mark.parametrize(
  ('p', 'q'),
  [(0, 1), (1, 0), (-1, 1), (float('nan'), 1), (1, float('inf'))],
)
def test_exponents_are_positive(p, q):
  with pytest.raises(ValueError, match=r'^Expected a finite number > 0 for'):
    total_variation.total_variation(world(), p=p, q=q)


def test_colours_differ_among_three():
  with pytest.raises(ValueError, match='3 channels'):
    total_variation.total_variation(world(1), double_opponents=True)


@pytest.mark.parametrize(
  ('normalisation', 'level', 'expected'),
  [('none', 0.5, 0.25), ('half', 0.5, 0), ('half', 1.0, 1), ('half', 0.0, 1)],
)
def test_l2_by_hand(normalisation, level, expected):
  term = l2.l2(world(1, normalisation))
  found = value(term, np.full((2, 4, 4, 1), level))
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_l2_is_a_mean():
  term = l2.l2(world())
  np.testing.assert_allclose(value(term, dot()), 1 / 16, rtol=1e-6)


@pytest.mark.parametrize('make', [total_variation.total_variation, l2.l2])
def test_is_the_mean_over_images(make):
  term = make(world(3, 'cifar10'))
  x = np.random.default_rng(0).uniform(size=(2, 4, 4, 3))
  alone = (value(term, x[:1]) + value(term, x[1:])) / 2
  np.testing.assert_allclose(value(term, x), alone, rtol=1e-5)


def test_patches_by_hand():
  """One border down and one across, of four pixels each; half of one steps."""
  x = np.zeros((1, 4, 4, 1), np.float32)
  x[0, :, 2:] = 0.5
  term = patch.patch(world(), size=2)
  np.testing.assert_allclose(value(term, x), 4 * 0.25 / 8, rtol=1e-6)
  # A step within a patch is none of its business, nor is a single patch.
  assert value(patch.patch(world(), size=3), x) == 0
  assert value(patch.patch(world(), size=4), x) == 0
  with pytest.raises(ValueError, match='size=0'):
    patch.patch(world(), size=0)
