"""Pools by definition, and options of the convolutional networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import models
from giajax.models import convert
from giajax.models.classification import densenet
from giajax.models.classification import googlenet
from giajax.models.classification import resnet
from giajax.models.classification import vgg
from giajax.models.parts import pools

IMAGES = np.random.default_rng(0).integers(-3, 4, (2, 7, 10, 3)).astype('f4')


def naive_max_pool(x, size, stride, padding, ceil):
  """Loops over windows; each must begin in front of the image's end."""
  counts = []
  for n in x.shape[1:3]:
    count = (n + 2 * padding - size) / stride + 1
    count = int(np.ceil(count) if ceil else count)
    counts.append(count - ((count - 1) * stride >= n + padding))
  wide = ((0, 0), (padding, padding + size), (padding, padding + size), (0, 0))
  x = np.pad(x, wide, constant_values=-np.inf)
  return np.array(
    [
      [
        x[:, i : i + size, j : j + size].max((1, 2))
        for j in range(0, counts[1] * stride, stride)
      ]
      for i in range(0, counts[0] * stride, stride)
    ]
  ).transpose(2, 0, 1, 3)


@pytest.mark.parametrize(
  ('size', 'stride', 'padding', 'ceil'),
  [
    (2, 2, 0, False),
    (2, 2, 0, True),
    (3, 2, 1, False),
    (3, 2, 0, True),
    (3, 1, 1, True),
    (1, 3, 0, True),
    (2, 3, 1, True),
  ],
)
def test_max_pool_equals_a_loop(size, stride, padding, ceil):
  found = pools.max_pool(IMAGES, size, stride, padding, ceil=ceil)
  expected = naive_max_pool(IMAGES, size, stride, padding, ceil)
  np.testing.assert_array_equal(found, expected)


def test_max_pool_differentiates_the_first_of_equal_values():
  x = np.array([[0.0, 1, 1], [1, 1, 0]])[None, :, :, None]
  dx = jax.grad(lambda x: pools.max_pool(x, 2, 1).sum())(jnp.asarray(x))
  np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 2, 0], [0, 0, 0]])


def test_max_pool_keeps_what_is_not_a_number():
  x = IMAGES.copy()
  x[0, 0, 0, 0] = x[1, 3, 3, 1] = np.nan
  found = np.isnan(pools.max_pool(x, 2, 2))
  assert found[0, 0, 0, 0]
  assert found[1, 1, 1, 1]
  assert found.sum() == 2


@pytest.mark.parametrize('size', [1, 3, 7, 12])
def test_adaptive_average_pool_equals_a_loop(size):
  h, w = IMAGES.shape[1:3]
  found = pools.adaptive_average_pool(IMAGES, size)
  for i in range(size):
    rows = slice(i * h // size, -(-(i + 1) * h // size))
    for j in range(size):
      columns = slice(j * w // size, -(-(j + 1) * w // size))
      expected = IMAGES[:, rows, columns].mean((1, 2))
      np.testing.assert_allclose(found[:, i, j], expected, atol=1e-6)


def test_average_pool_drops_the_odd_row():
  found = pools.average_pool(IMAGES, 2)
  assert found.shape == (2, 3, 5, 3)
  np.testing.assert_allclose(
    found[:, 2, 4], IMAGES[:, 4:6, 8:].mean((1, 2)), atol=1e-6
  )


@pytest.mark.parametrize(
  ('factory', 'options', 'message'),
  [
    (resnet.resnet, {'depth': 19}, 'depth=19'),
    (resnet.resnet, {'depth': 20, 'stem': 'imagenet'}, "stem='imagenet'"),
    (resnet.resnet, {'shortcut': 'A'}, "shortcut='A'"),
    (resnet.resnet, {'skip': False, 'shortcut': 'B'}, 'skip=False'),
    (resnet.resnet, {'groups': 2}, 'depth=18'),
    (resnet.resnet, {'depth': 50, 'groups': 0}, r'\(0, 64\)'),
    (
      resnet.resnet,
      {'depth': 50, 'group_width': 1, 'width': 0.5},
      'channel per group',
    ),
    (resnet.resnet, {'width': 0}, 'width=0'),
    (resnet.resnet, {'blocks': (2, 0)}, r'blocks=\(2, 0\)'),
    (resnet.resnet, {'placement': 'pre'}, "placement='pre'"),
    (resnet.resnet, {'norm': 'bn'}, "norm='bn'"),
    (resnet.resnet, {'activation': 'rrelu'}, "did you mean 'relu'"),
    (resnet.resnet, {'image_shape': (7, 9, 3)}, '8x8'),
    (vgg.vgg, {'depth': 12}, 'depth=12'),
    (vgg.vgg, {'form': 'small'}, "form='small'"),
    (vgg.vgg, {'dropout': 1.0}, 'rate=1.0'),
    (vgg.vgg, {'image_shape': (31, 64, 3)}, '32x32'),
    (models.MODELS['alexnet'], {'image_shape': (28, 32, 3)}, '29x29'),
    (models.MODELS['alexnet'], {'form': 'imagenet'}, '63x63'),
    (densenet.densenet, {'growth': 0}, 'growth=0'),
    (densenet.densenet, {'blocks': ()}, r'blocks=\(\)'),
    (densenet.densenet, {'stem': 'imagenet', 'image_shape': (16, 16, 3)}, '32'),
    (googlenet.googlenet, {'blocks': (2, 6, 2)}, r'\(2, 6, 2\)'),
    (googlenet.googlenet, {'blocks': (2, 5)}, r'\(2, 5\)'),
    (googlenet.googlenet, {'width': 0.01}, 'width=0.01'),
    (googlenet.googlenet, {'image_shape': (7, 7, 3)}, '8x8'),
  ],
)
def test_impossible_options_are_refused(factory, options, message):
  with pytest.raises(ValueError, match=f'Expected .*{message}') as error:
    factory(**options)
  assert '\n' not in str(error.value)


def test_the_smallest_images_give_logits():
  for name, side, options in (
    ('alexnet', 29, {}),
    ('densenet121', 8, {'blocks': (1, 1, 1, 1)}),
    ('googlenet', 8, {'blocks': (1, 1, 1)}),
    ('resnet18', 8, {'blocks': (1, 1, 1, 1)}),
    ('vgg11', 32, {}),
  ):
    net = models.MODELS[name]((side, side, 3), 5, **options)
    variables = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    assert jax.eval_shape(net.apply, variables, x).out.shape == (1, 5)


def test_dropout_of_a_training_pass_needs_a_key():
  net = googlenet.googlenet((8, 8, 3), blocks=(1, 1, 1), width=1 / 16)
  variables = jax.eval_shape(net.init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
  with pytest.raises(ValueError, match=r"Expected a key .* 'dropout'"):
    jax.eval_shape(lambda v, x: net.apply(v, x, train=True), variables, x)


def test_auxiliary_classifiers_are_surplus():
  net = googlenet.googlenet((8, 8, 3), blocks=(1, 1, 1), width=1 / 16)
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  state = convert.to_state_dict(
    jax.tree.map(lambda s: np.zeros(s.shape), abstract)
  )
  state['aux1.conv.conv.weight'] = np.zeros((128, 512, 1, 1))
  with pytest.raises(ValueError, match=r'surplus: aux1\.conv\.conv\.weight'):
    convert.from_state_dict(state, net)
