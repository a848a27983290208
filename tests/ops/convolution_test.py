"""Every lowering equals the reference in value and in two derivatives."""

import functools
import math

from flax import linen
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.ops import convolution
from giajax.ops import geometries

SAME = ((1, 1), (1, 1))
# name: x shape, kernel shape, geometry, the lowerings that do it
CASES = {
  'same': (
    (2, 8, 8, 4),
    (3, 3, 4, 6),
    geometries.Geometry(padding=SAME),
    ('direct', 'patches', 'blocks', 'winograd'),
  ),
  'ragged': (  # not a multiple of a tile, uneven padding
    (1, 7, 10, 3),
    (3, 3, 3, 5),
    geometries.Geometry(padding=((0, 1), (2, 0))),
    ('direct', 'patches', 'blocks', 'phases', 'winograd'),
  ),
  'strided': (
    (2, 9, 8, 3),
    (5, 5, 3, 4),
    geometries.Geometry((2, 2), ((2, 2), (2, 2))),
    ('direct', 'patches', 'blocks', 'phases'),
  ),
  'stem': (  # a kernel that no stride divides, a last column left over
    (1, 15, 16, 3),
    (7, 7, 3, 4),
    geometries.Geometry((4, 4), ((2, 2), (2, 2))),
    ('patches', 'phases'),
  ),
  'uneven': (
    (1, 8, 9, 3),
    (3, 2, 3, 4),
    geometries.Geometry((2, 1), ((0, 1), (1, 0))),
    ('direct', 'patches', 'blocks', 'phases'),
  ),
  'pointwise': (
    (2, 5, 5, 3),
    (1, 1, 3, 4),
    geometries.Geometry((2, 2)),
    ('direct', 'patches', 'blocks', 'phases'),
  ),
  'tiles': (  # that do not overlap, nor reach the last column
    (2, 6, 10, 3),
    (2, 3, 3, 4),
    geometries.Geometry((2, 3)),
    ('direct', 'patches', 'blocks', 'phases'),
  ),
  'dilated': (
    (1, 9, 9, 3),
    (3, 3, 3, 4),
    geometries.Geometry(padding=((2, 2), (2, 2)), dilation=(2, 2)),
    ('direct', 'patches'),
  ),
  'depthwise': (
    (2, 6, 6, 4),
    (3, 3, 1, 8),
    geometries.Geometry((2, 2), SAME, 4),
    ('shifts', 'bundles'),
  ),
  'wide': (  # depthwise, more columns than a step of its loop
    (2, 5, 19, 3),
    (3, 5, 1, 3),
    geometries.Geometry((1, 1), ((1, 1), (4, 3)), 3, (1, 2)),
    ('shifts', 'bundles'),
  ),
  'grouped strided': (
    (2, 7, 8, 6),
    (3, 2, 2, 9),
    geometries.Geometry((2, 1), ((0, 1), (2, 1)), 3, (1, 2)),
    ('lax', 'bundles'),
  ),
  'grouped': (
    (1, 6, 6, 4),
    (3, 3, 2, 6),
    geometries.Geometry((1, 1), SAME, 2),
    ('lax', 'bundles'),
  ),
  'bundled': (  # by winograd
    (1, 8, 8, 32),
    (3, 3, 16, 32),
    geometries.Geometry((1, 1), SAME, 2),
    ('lax', 'bundles'),
  ),
  'two bundles': (
    (1, 5, 6, 64),
    (3, 3, 16, 32),
    geometries.Geometry((2, 2), SAME, 4),
    ('lax', 'bundles'),
  ),
}
PAIRS = [
  (case, lowering)
  for case, (_, _, _, lowerings) in CASES.items()
  for lowering in lowerings
]


@functools.cache
def _derivatives(case, lowering, shared):
  """The value, both gradients, and the gradients of their squares."""
  x, kernel, geometry = _arrays(case, 2, shared)

  def convolve(x, kernel):
    if lowering == 'reference':  # with JAX's rules for both derivatives
      return jax.lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=geometry.groups,
      )
    return convolution.convolve(x, kernel, geometry, lowering)

  def first(x, kernel):
    y, pull = jax.vjp(convolve, x, kernel)
    return y, *pull(jnp.sin(y))

  def second(x, kernel):
    gradients = first(x, kernel)[1:]
    weights = [jnp.cos(jnp.arange(g.size)).reshape(g.shape) for g in gradients]
    return sum(jnp.sum(w * g**2) for w, g in zip(weights, gradients))

  def run(x, kernel):
    return *first(x, kernel), *jax.grad(second, (0, 1))(x, kernel)

  mapped = jax.vmap(run, (0, None if shared else 0))
  return jax.device_get(jax.jit(mapped)(x, kernel))


def _arrays(case, restarts, shared):
  x_shape, k_shape, geometry, _ = CASES[case]
  x_key, k_key = jax.random.split(jax.random.key(0))
  x = jax.random.normal(x_key, (restarts, *x_shape))
  lead = () if shared else (restarts,)
  kernel = jax.random.normal(k_key, (*lead, *k_shape))
  # Outputs of order 1, as the sine of large ones multiplies their roundings.
  return x, kernel / math.prod(k_shape[:3]) ** 0.5, geometry


@pytest.mark.parametrize('shared', [True, False], ids=['shared', 'batched'])
@pytest.mark.parametrize('case,lowering', PAIRS)
def test_equals_the_reference_under_vmap(case, lowering, shared):
  wanted = _derivatives(case, 'reference', shared)
  for got, want in zip(_derivatives(case, lowering, shared), wanted):
    assert got.shape == want.shape
    scale = np.abs(want).max()
    np.testing.assert_allclose(got / scale, want / scale, atol=1e-5)


def test_winograd_of_wide_kernels():
  """The error grows with neither channels nor tiles."""
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (1, 16, 16, 128))
  kernel = jax.random.normal(keys[1], (3, 3, 128, 64))
  geometry = geometries.Geometry(padding=SAME)
  got, want = (
    jax.jit(convolution.convolve, static_argnums=(2, 3))(
      x, kernel, geometry, name
    )
    for name in ('winograd', 'lax')
  )
  assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_shifts_sum_taps_otherwise_on_accelerators(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  x, kernel, geometry = _arrays('wide', 1, True)
  found, wanted = (
    jax.grad(lambda k, n=n: convolution.convolve(x[0], k, geometry, n).sum())
    for n in ('shifts', 'lax')
  )
  np.testing.assert_allclose(found(kernel), wanted(kernel), rtol=1e-5)


@pytest.mark.parametrize('name', convolution.LOWERINGS)
def test_second_derivatives_inside_a_scan(name):
  """JAX mixes up what they save if a rule calls a jitted function."""
  groups = {'bundles': 2, 'shifts': 4}.get(name, 1)
  geometry = geometries.Geometry(padding=((1, 1), (1, 1)), groups=groups)
  x = jax.random.normal(jax.random.key(0), (1, 5, 6, 4))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 4 // groups, 4)) / 6

  def loss(scan, lowering, x):
    def body(x, scale):
      y = convolution.convolve(x, kernel * scale, geometry, lowering)
      return jnp.tanh(y), y.mean()

    def slope(scale):
      return jnp.sin(scan(body, x, scale * jnp.ones(3))[0]).sum()

    return jnp.square(jax.grad(slope)(1.0))

  def loop(body, x, scales):
    for scale in scales:
      x, _ = body(x, scale)
    return x, None

  found = jax.grad(functools.partial(loss, jax.lax.scan, name))(x)
  expected = jax.grad(functools.partial(loss, loop, 'lax'))(x)
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


def test_every_lowering_is_tried():
  assert {name for _, name in PAIRS} == set(convolution.LOWERINGS)


@pytest.mark.parametrize(
  'lowering,case',
  [
    ('winograd', 'strided'),
    ('winograd', 'dilated'),
    ('blocks', 'dilated'),
    ('shifts', 'same'),
    ('direct', 'grouped'),
    ('blocks', 'grouped'),
  ],
)
def test_unsupported_geometry_says_what_to_use(lowering, case):
  x, kernel, geometry = _arrays(case, 1, True)
  with pytest.raises(ValueError, match=r'Expected .*; got .*; use') as error:
    convolution.convolve(x[0], kernel, geometry, lowering)
  assert '\n' not in str(error.value)


def test_unknown_lowering_lists_the_known():
  with pytest.raises(ValueError, match='winograd'):
    convolution.convolve(
      jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 1, 1, 1)), lowering='fft'
    )


@pytest.mark.parametrize(
  'options',
  [
    dict(padding='SAME'),
    dict(padding='VALID', strides=2),
    dict(padding=((1, 0), (2, 1)), kernel_dilation=2),
    dict(feature_group_count=4, padding='SAME', strides=2),
  ],
  ids=['same', 'strided', 'dilated', 'depthwise'],
)
@pytest.mark.parametrize('library', ['linen', 'nnx'])
def test_flax_layers_take_the_lowering(library, options):
  x = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))
  ours = {'conv_general_dilated': convolution.conv_general_dilated}

  def run(given):
    if library == 'linen':
      layer = linen.Conv(8, (3, 3), **options, **given)
      return layer.init_with_output(jax.random.key(1), x)[0]
    layer = nnx.Conv(4, 8, (3, 3), **options, **given, rngs=nnx.Rngs(1))
    return layer(x)

  np.testing.assert_allclose(run(ours), run({}), atol=1e-5)


def test_flax_layouts_that_are_not_ours_are_refused():
  layer = linen.Conv(
    8, (3,), conv_general_dilated=convolution.conv_general_dilated
  )
  with pytest.raises(ValueError, match=r'Expected .* NHWC'):
    layer.init(jax.random.key(0), jnp.zeros((2, 9, 4)))
