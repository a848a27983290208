"""Tests of the float64 convolution that lowerings are compared with."""

import math

import jax
import numpy as np
import pytest

from giajax.ops import geometries
from launch.accelerator import reference

CASES = {
  'plain': (
    (2, 5, 6, 3),
    (3, 3, 3, 4),
    geometries.Geometry(padding=((1, 1), (0, 2))),
  ),
  'strided': (
    (1, 9, 8, 3),
    (3, 2, 3, 4),
    geometries.Geometry((2, 3), ((0, 1), (2, 0))),
  ),
  'grouped': (
    (2, 7, 8, 6),
    (3, 2, 2, 9),
    geometries.Geometry((2, 1), ((0, 1), (2, 1)), 3, (1, 2)),
  ),
  'depthwise': (
    (1, 6, 5, 4),
    (3, 3, 1, 4),
    geometries.Geometry((1, 1), ((1, 1), (1, 1)), 4),
  ),
}


@pytest.mark.parametrize('case', CASES)
def test_equals_jax_in_float64(case):
  x_shape, kernel_shape, geometry = CASES[case]
  rng = np.random.default_rng(0)
  x = rng.normal(size=x_shape)
  kernel = rng.normal(size=kernel_shape) / math.sqrt(math.prod(x_shape[1:]))

  def output(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      geometry.strides,
      geometry.padding,
      rhs_dilation=geometry.dilation,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=geometry.groups,
    )

  def first(x):
    return jax.grad(lambda k: (output(x, k) ** 2).sum() / 2)(kernel)

  with jax.enable_x64(True):
    second = jax.grad(lambda x: (first(x) ** 2).sum() / 2)
    wanted = jax.device_get((output(x, kernel), first(x), second(x)))
  found = reference.derivatives(x, kernel, geometry)
  for got, want in zip(found, wanted, strict=True):
    assert got.dtype == want.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
