"""Vision transformers and ConvNeXt, by hand-made answers."""

import functools

from golden import draws
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import models
from giajax import trees
from giajax import types
from giajax.models import inspect
from giajax.models.parts import attention
from giajax.models.parts import window_attention

SMALL_VIT = {'width': 8, 'depth': 1, 'heads': 2, 'init': 'timm'}
REFUSED = [
  ('vit_tiny', {'depth': 0}, r'at least 1.*depth=0'),
  ('vit_tiny', {'lora_rank': -1}, r'lora_rank=-1'),
  ('vit_tiny', {'heads': 5}, r'divide the width; got heads=5, width=192'),
  ('vit_tiny', {'patch': 5}, r'patches tile; got .*patch=5'),
  ('vit_tiny', {'dropout': 1.0}, r'rate in \[0, 1\); got rate=1.0'),
  ('vit_tiny', {'activation': 'rulu'}, r"activation='rulu'; did you mean"),
  ('vit_tiny', {'init': 'time'}, r"init='time'; did you mean 'timm'"),
  ('convnext_tiny', {'depths': ()}, r'at least 1; got .*depths=\(\)'),
  ('convnext_tiny', {'placement': 'befor'}, r"did you mean 'before'"),
  ('convnext_tiny', {'norm': 'bacth'}, r"norm='bacth'; did you mean 'batch'"),
  ('convnext_tiny', {'stem': 'imagenet'}, r'stem \(cifar, patch\)'),
  ('convnext_tiny', {'image_shape': (7, 9, 3)}, r'at least 8x8 pixels'),
  (
    'convnext_tiny',
    {'image_shape': (31, 32, 3), 'stem': 'patch'},
    r'at least 32x32 pixels',
  ),
  ('swin_tiny', {'version': 3}, r'version 1 or 2; got version=3'),
  ('swin_tiny', {'window': 1}, r'window of at least 2; .*window=1'),
  ('swin_tiny', {'head_dim': 5}, r'head_dim that divides it.*head_dim=5'),
  ('swin_v2_tiny', {'image_shape': (3, 8, 3)}, r'at least 4x4 pixels'),
  ('maxvit_tiny', {'head_dim': 5}, r'head_dim divides.*head_dim=5'),
  ('maxvit_tiny', {'image_shape': (33, 32, 3)}, r'multiples of partition=4'),
  ('maxvit_tiny', {'image_shape': (24, 24, 3)}, r'got 6x6 in stage 2'),
  ('maxvit_tiny', {'stem': 'cifer'}, r"or 'imagenet'; got stem='cifer'"),
]


@pytest.mark.parametrize(('row', 'options', 'message'), REFUSED)
def test_bad_options_are_refused_in_one_line(row, options, message):
  with pytest.raises(ValueError, match=message) as info:
    models.MODELS[row](**options)
  assert '\n' not in str(info.value)


def test_relative_bias_is_a_look_up_of_differences():
  side, heads = 3, 2
  table = np.random.default_rng(0).normal(size=((2 * side - 1) ** 2, heads))
  bias = attention.relative_bias(jnp.asarray(table, jnp.float32), side)
  for q in range(side**2):
    for k in range(side**2):
      rows, columns = q // side - k // side, q % side - k % side
      index = (rows + side - 1) * (2 * side - 1) + columns + side - 1
      np.testing.assert_allclose(bias[:, q, k], table[index], rtol=1e-6)


def test_windows_hold_neighbours_and_grids_span_the_map():
  x = jnp.arange(4 * 6).reshape(1, 4, 6, 1)
  windows, grids = attention.windows(x, 2), attention.grids(x, 2)
  assert windows.shape == grids.shape == (1, 2, 3, 4, 1)
  assert windows[0, 1, 2, :, 0].tolist() == [16, 17, 22, 23]
  assert grids[0, 1, 2, :, 0].tolist() == [8, 11, 20, 23]
  np.testing.assert_array_equal(attention.unwindows(windows), x)
  np.testing.assert_array_equal(attention.ungrids(grids), x)


def test_masks_part_what_rolling_brought_together():
  mask = window_attention._mask((4, 2), 2, (1, 0))
  assert mask.shape == (1, 2, 1, 1, 4, 4)
  assert not mask[0, 0].any()
  # The last window's upper row is the map's last, its lower the map's first.
  apart = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])
  np.testing.assert_array_equal(mask[0, 1, 0, 0], -100 * apart)


def test_a_zero_vector_has_a_unit_without_slope():
  @jax.jit
  def run(x):
    first = jax.jacrev(window_attention._unit)
    return window_attention._unit(x), first(x), jax.jacrev(first)(x)

  assert not any(np.any(y) for y in run(jnp.zeros(2)))
  unit, slope, _ = run(jnp.array([3.0, 4.0]))
  np.testing.assert_allclose(unit, [0.6, 0.8], rtol=1e-6)
  np.testing.assert_allclose(slope[0], [16 / 125, -12 / 125], rtol=1e-5)


def test_new_adapters_change_nothing_but_are_trained():
  options = {**SMALL_VIT, 'lora_rank': 2}
  net = models.MODELS['vit_tiny']((8, 8, 3), 4, **options)
  x = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))

  @jax.jit
  def gradient(key):
    stats, params = {}, net.init(key).params

    def loss(params):
      out = net.apply(types.Variables(params, stats), x).out
      return jax.nn.logsumexp(out, axis=1).sum()

    return params, jax.grad(loss)(params)

  params, slope = map(trees.named_leaves, gradient(jax.random.key(0)))
  name = 'encoder.layers.encoder_layer_0.self_attention.in_proj'
  down, up = f'{name}.lora_a.kernel', f'{name}.lora_b.kernel'
  assert params[down].any()
  assert not params[up].any()
  assert not slope[down].any()
  assert slope[up].any()


def test_a_bare_first_attention_has_no_norm_and_counts_as_altered():
  make = functools.partial(
    models.MODELS['vit_tiny'], (8, 8, 3), 4, **{**SMALL_VIT, 'depth': 2}
  )
  stock, bare = make(), make(bare_first_attention=True)
  without = inspect.leaf_names(stock) - inspect.leaf_names(bare)
  block = 'encoder.layers.encoder_layer_0'
  assert without == {f'{block}.ln_1.{leaf}' for leaf in ('scale', 'bias')}
  assert bare.spec.altered and not stock.spec.altered
  # Without the skip, attention that gives nothing leaves nothing of the image.
  variables = jax.jit(bare.init)(jax.random.key(0))
  names = [f'{block}.self_attention.out_proj.kernel']
  zeros = {name: jnp.zeros((8, 8)) for name in names}
  params = trees.replaced(variables.params, zeros)
  x = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
  out = bare.apply(variables._replace(params=params), x).out
  np.testing.assert_allclose(out[0], out[1], atol=1e-6)


def test_dropout_draws_by_key():
  options = {**SMALL_VIT, 'dropout': 0.5, 'attention_dropout': 0.5}
  net = models.MODELS['vit_tiny']((8, 8, 3), 4, **options)
  variables = jax.jit(net.init)(jax.random.key(0))
  x = jnp.full((2, 8, 8, 3), 0.3)
  apply = jax.jit(lambda key: net.apply(variables, x, train=True, key=key))
  a, b, c = (apply(jax.random.key(i)).out for i in (0, 0, 1))
  np.testing.assert_array_equal(a, b)
  assert np.all(a != c)
  assert np.all(a[0] != a[1])  # though the images are the same


@pytest.mark.parametrize(
  'row', ['convnext_tiny', 'maxvit_tiny', 'swin_tiny', 'swin_v2_tiny']
)
def test_stochastic_depth_needs_a_key(row):
  case = draws.CASES[f'{row.removesuffix("_tiny")}_shrunk']
  options = {**case.options, 'stochastic_depth': 0.5, 'depths': (2,)}
  net = models.MODELS[row](case.image_shape, 3, **options)
  variables = jax.eval_shape(net.init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((2, *case.image_shape), np.float32)

  def run(train, key=None):
    return jax.eval_shape(
      lambda v, x: net.apply(v, x, train=train, key=key).out, variables, x
    )

  assert run(True, jax.random.key(0)).shape == run(False).shape == (2, 3)
  with pytest.raises(ValueError, match=r'Expected a key for a training pass'):
    run(True)
