"""Tests of YOLOv8: options, fresh weights, the trained file.

Goldens test the values, see models/parity_test.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from giajax import archives
from giajax import models
from giajax import trees
from giajax.models import base
from giajax.models import convert
from giajax.models import inspect
from giajax.models import torch_names

ROWS = ('yolov8n', 'yolov8n_basicblock')
TINY = dict(image_shape=(64, 32, 3), num_classes=3, width=1 / 16)


def names(net):
  return torch_names.of_net(net).keys()


@pytest.mark.parametrize('name', ROWS)
@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'image_shape': (48, 64, 3)}, r'multiples of 32; got .*\(48, 64, 3\)'),
    ({'width': 0}, 'factor above 0; got width=0'),
    ({'width': 1e-3}, 'width factor'),
    ({'norm': 'bach'}, "did you mean 'batch'"),
    ({'activation': 'rellu'}, "did you mean 'relu'"),
    ({'prior_side': -1}, 'above 0; got prior_side=-1'),
  ],
)
def test_mistakes_are_one_line(name, options, words):
  with pytest.raises(ValueError, match=f'Expected.*{words}') as info:
    models.MODELS[name](**options)
  assert '\n' not in str(info.value)


@pytest.mark.parametrize(
  ('name', 'options', 'words'),
  [
    ('yolov8n', {'depth': 0}, 'above 0; got depth=0'),
    ('yolov8n', {'depth': 1e4}, 'at most 1000 blocks'),
    ('yolov8n_basicblock', {'blocks': (1, 1)}, r'got blocks=\(1, 1\)'),
    ('yolov8n_basicblock', {'neck_blocks': 0}, 'neck_blocks=0'),
    ('yolov8n_basicblock', {'block': 'csp'}, "block.*got.*'csp'"),
    ('yolov8n_basicblock', {'stem': 'cifar'}, "stem.*got.*'cifar'"),
    ('yolov8n_basicblock', {'placement': 'pre'}, "placement.*got.*'pre'"),
  ],
)
def test_mistakes_of_one_network_are_one_line(name, options, words):
  with pytest.raises(ValueError, match=f'Expected.*{words}') as info:
    models.MODELS[name](**options)
  assert '\n' not in str(info.value)


@pytest.mark.parametrize('name', ROWS)
def test_logits_of_every_cell(name):
  net = models.MODELS[name](**TINY)
  x = jax.ShapeDtypeStruct((2, 64, 32, 3), jnp.float32)
  out = jax.eval_shape(net.apply, inspect.abstract_variables(net), x).out
  cells = 8 * 4 + 4 * 2 + 2 * 1
  assert {k: (v.shape, v.dtype) for k, v in out.items()} == {
    'boxes': ((2, cells, 4, 16), jnp.float32),
    'scores': ((2, cells, 3), jnp.float32),
  }


@pytest.mark.parametrize(
  ('name', 'head', 'side'),
  [('yolov8n', 'model.22', 640), ('yolov8n_basicblock', 'head', 256)],
)
def test_fresh_weights(name, head, side):
  net = models.MODELS[name](**TINY)
  variables = net.init(jax.random.key(0))
  for leaf, value in trees.named_leaves(variables.params).items():
    if leaf.endswith('kernel'):
      bound = math.prod(value.shape[:3]) ** -0.5
      largest = np.abs(value).max()
      assert 0.8 * bound < largest <= bound, leaf
    elif leaf.endswith('.scale'):
      assert np.all(value == 1), leaf
    elif not leaf.startswith(f'{head}.') or '.2.bias' not in leaf:
      assert np.all(value == 0), leaf
  # Without a kernel, the last layers give their biases, level by level.
  params = trees.named_leaves(variables.params)
  last = {k: 0 * v for k, v in params.items() if k.endswith('.2.kernel')}
  still = variables._replace(params=trees.nested({**params, **last}))
  out = jax.jit(net.apply)(still, jnp.zeros((1, 64, 32, 3))).out
  priors = [5 / 3 / (side / stride) ** 2 for stride in (8, 16, 32)]
  expected = np.repeat(np.log(priors), [32, 8, 2])[:, None]
  assert len(last) == 6
  np.testing.assert_array_equal(out['boxes'], 1)
  np.testing.assert_allclose(out['scores'][0] - expected, 0, atol=1e-5)


def test_norms_have_the_momentum_of_their_part():
  stock = inspect.momenta(models.MODELS['yolov8n'](**TINY))
  assert set(stock.values()) == {0.03}
  mixed = inspect.momenta(models.MODELS['yolov8n_basicblock'](**TINY))
  for path, momentum in mixed.items():
    block = path.startswith('net.') or '.downsample' in path or '.bn' in path
    assert momentum == (0.1 if block else 0.03), path


def test_names_of_the_forms():
  make = models.MODELS['yolov8n_basicblock']
  assert {
    *('net.p1.conv.weight', 'net.p1.bn.running_var', 'fpn.h5.norm.bias'),
    *('net.layer4.1.conv2.weight', 'fpn.h1.0.downsample.1.weight'),
    *('head.box.2.1.norm.weight', 'head.cls.0.2.bias'),
  } <= names(make(**TINY))
  before = names(make(**TINY, placement='before'))
  assert {'net.layer1.0.shortcut.0.weight', 'fpn.h6.0.shortcut.0.weight'} <= (
    before
  )
  assert not [name for name in before if 'downsample' in name]
  split = names(make(**TINY, block='c2f', blocks=(1, 2, 1, 1), neck_blocks=2))
  assert {
    *('net.layer2.0.conv.weight', 'net.layer2.1.m.1.cv2.norm.weight'),
    *('fpn.h1.0.cv1.conv.weight', 'fpn.h6.0.m.1.cv1.conv.weight'),
  } <= split


def test_the_larger_size_of_the_same_depth():
  # As published for YOLOv8-s: 11.2 million.
  net = models.MODELS['yolov8n'](width=0.5)
  assert round(base.count(inspect.abstract_variables(net)) / 1e6, 1) == 11.2


@pytest.mark.parametrize(
  ('name', 'constant'),
  [
    ('yolov8n', 'model.22.dfl.conv.weight'),
    ('yolov8n_basicblock', 'head.dfl.conv.weight'),
  ],
)
def test_the_distances_are_checked_and_left_out(name, constant):
  net = models.MODELS[name](**TINY)
  edited = net.edit(lambda module, rngs: None)
  shapes = inspect.abstract_variables(net)
  zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
  state = convert.to_state_dict(zeros)
  distances = np.arange(16, dtype=np.float16).reshape(1, 16, 1, 1)
  for same in (net, edited):
    read = convert.from_state_dict({**state, constant: distances}, same)
    assert len(jax.tree.leaves(read)) == len(state)
    with pytest.raises(ValueError, match='Expected the constants') as info:
      convert.from_state_dict({**state, constant: 1 + distances}, same)
    assert constant in str(info.value)


def photographs(folder, side):
  """Returns images [24, side, side, 3] in [0, 1], and their classes."""
  x, classes = [], []
  for path in sorted((folder / 'images').rglob('*.jpg')):
    with Image.open(path) as image:
      size = (side, side), Image.Resampling.BILINEAR
      x.append(np.asarray(image.convert('RGB').resize(*size), np.float32) / 255)
    (labels,) = (folder / 'labels').rglob(f'{path.stem}.txt')
    rows = labels.read_text(encoding='utf-8').splitlines()
    classes.append({int(row.split()[0]) for row in rows})
  return np.stack(x), classes


def test_trained_weights(shared_data):
  path = shared_data / 'weights' / 'yolo' / 'yolov8n_state.npz'
  net = models.MODELS['yolov8n']()
  variables = convert.load(path, net)
  assert base.count(variables) == 3_157_184
  assert len(jax.tree.leaves(variables.params)) == 183
  assert sum(v.size for v in jax.tree.leaves(variables.stats)) == 10_592
  # All of its arrays are used, but for the 16 distances.
  left = archives.read(path).keys() - convert.to_state_dict(variables).keys()
  assert left == {'model.22.dfl.conv.weight'}
  x, classes = photographs(shared_data / 'coco', 256)
  out = jax.jit(lambda x: net.apply(variables, x).out)(x)
  assert trees.all_finite(out)
  best = np.asarray(out['scores']).max(1).argmax(-1)
  # 22, stretched to squares as they are.
  right = [int(k) in own for k, own in zip(best, classes, strict=True)]
  assert len(right) == 24 and sum(right) >= 20
