"""Tests of the checks: what is right passes, and what is wrong does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.ops import convolution
from giajax.ops import moments
from launch.accelerator import checks
from launch.accelerator import rows


@pytest.mark.parametrize('name', ['patches', 'shifts'])
def test_a_lowering_is_checked_for_the_shapes_that_it_can_do(name):
  found = checks.lowering('lenet:1', name, 'full')
  shapes = 3 if name == 'patches' else 0
  assert found['shapes'] == shapes
  assert found['verdict'] == (rows.OK if shapes else rows.NONE)
  assert found['second'] < 1e-6


@pytest.mark.parametrize(
  'face, figures',
  [
    ('output', ('value',)),
    ('to_kernel', ('first',)),
    ('to_input', ('second',)),
  ],
)
def test_a_wrong_lowering_is_seen(monkeypatch, face, figures):
  whole = convolution.LOWERINGS['patches']

  def wrong(shapes):
    faces = whole(shapes)

    def bent(*arguments):
      return getattr(faces, face)(*arguments) * (1 + 1e-3)

    return faces._replace(**{face: bent})

  monkeypatch.setitem(convolution.LOWERINGS, 'patches', wrong)
  found = checks.lowering('lenet:1', 'patches', 'full')
  assert found['verdict'] == rows.DIFFERS
  for key in figures:
    assert 5e-4 < found[key] < 5e-3
  coarse = checks.lowering('lenet:1', 'patches', 'tensorfloat32')
  assert coarse['verdict'] == rows.MEASURED


def test_what_is_not_a_number_is_wrong(monkeypatch):
  def broken(shapes):
    faces = convolution.xla.reference(shapes)
    return faces._replace(output=lambda x, k: faces.output(x, k) * jnp.nan)

  monkeypatch.setitem(convolution.LOWERINGS, 'patches', broken)
  found = checks.lowering('lenet:1', 'patches', 'full')
  assert found['verdict'] == rows.DIFFERS and found['value'] == np.inf


def test_moments(monkeypatch):
  found = checks.moments('mlp:1')
  assert found['verdict'] == rows.OK and found['error'] < 1e-5
  total = moments._total
  monkeypatch.setattr(moments, '_total', lambda x: 1.01 * total(x))
  assert checks.moments('lenet:1')['verdict'] == rows.DIFFERS


def test_layouts(monkeypatch):
  found = checks.layouts('mlp:1')
  assert found['verdict'] == rows.OK
  assert found['devices'] == jax.device_count()
  images = iter([np.zeros((1, 2, 3)), np.arange(6.0).reshape(1, 2, 3)])
  monkeypatch.setattr(checks, '_images', lambda *_: next(images))
  assert checks.layouts('mlp:1')['verdict'] == rows.DIFFERS
