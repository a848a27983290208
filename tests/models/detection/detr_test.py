"""Tests of giajax.models.detection.detr, and of its loss on what it predicts.

The goldens hold torch's float64 results, see golden/make_detr.py. Forms without
a decoder are in models/parity_test.py.
"""

import functools
import math
from typing import Any, NamedTuple

from golden import detr_cases
from golden import draws
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import models
from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import convert
from giajax.models import gradient_moments
from giajax.models import inspect
from giajax.models import layers
from giajax.models import subset
from giajax.models import torch_names
from giajax.models.detection import detr
from giajax.tasks.parts import set_matching

TOLERANCE = 1e-4
R18 = {
  'depth': 18,
  'batch_norm': 'trained',
  'dropout': 0.0,
  'auxiliary': False,
}
SHALLOW = {
  **R18,
  'encoder_layers': 1,
  'decoder_layers': 1,
  'width': 128,
  'heads': 4,
  'hidden': 4,
}
# At 91 classes: the published network, and smaller ones.
PARAMETERS = {
  'stock': (41_524_768, {}),
  'norms trained': (41_577_888, {'batch_norm': 'trained'}),
  'r18': (28_853_152, R18),
  'r18, 3 stages': (20_393_888, {**R18, 'stages': 3}),
  'shallow': (11_763_488, SHALLOW),
  'shallow, 3 stages': (3_336_992, {**SHALLOW, 'stages': 3}),
  'no decoder': (3_059_360, {**SHALLOW, 'stages': 3, 'decoder_layers': 0}),
  'no transformer': (
    2_861_088,
    {**SHALLOW, 'stages': 3, 'encoder_layers': 0, 'decoder_layers': 0},
  ),
}
TINY = {**detr_cases.CASES['detr'].options, 'stages': 1}
REFUSED = [
  ({'depth': 20}, r'got depth=20, stages=4'),
  ({'stages': 5}, r'1 to 4 stages; got depth=50, stages=5'),
  ({'width': 18, 'heads': 3}, r'multiple of 4 and of heads; got width=18'),
  ({'heads': 3}, r'got width=256, heads=3'),
  ({'encoder_layers': -1}, r'at least 0; got .*encoder_layers=-1'),
  ({'queries': 0}, r'at least 1.*queries=0'),
  ({'batch_norm': 'frozn'}, r"batch_norm='frozn'; did you mean 'frozen'"),
  ({'dropout': 1.0}, r'rate in \[0, 1\); got rate=1.0'),
  ({'image_shape': (31, 64, 3)}, r'at least 32x32 pixels'),
  ({'normalisation': 'imagnet'}, r"did you mean 'imagenet'"),
]


class Evaluation(NamedTuple):
  """What one mode of a case computes at the candidate images."""

  observed: types.Tree  # the gradient at the target images
  loss: types.Array
  output: types.Output
  gradient: types.Tree
  cosine: types.Array
  dx: types.Array  # of 1 - cosine


@functools.cache
def subject(name):
  """Returns network, variables, golden, images by purpose, and objects."""
  case = detr_cases.CASES[name]
  path = detr_cases.FOLDER / f'{name}.npz'
  with np.load(path, allow_pickle=False) as archive:
    golden = {key: archive[key] for key in archive.files}
  seed = int(golden['seed'])
  net = detr.detr(case.image_shape, case.num_classes, **case.options)
  zeros = jax.tree.map(
    lambda s: np.zeros(s.shape), inspect.abstract_variables(net)
  )
  state = {
    n: detr_cases.weight(n, value.shape, case, seed)
    for n, value in convert.to_state_dict(zeros).items()
  }
  x, target = (
    jnp.asarray(draws.images(n, case, seed)) for n in ('candidate', 'target')
  )
  objects = detr_cases.Objects(
    *(jnp.asarray(leaf) for leaf in detr_cases.objects(case, seed))
  )
  variables = convert.from_state_dict(state, net)
  return net, variables, golden, x, target, objects


@functools.cache
def evaluate(name, train):
  net, variables, _, x, target, objects = subject(name)

  def loss(params, x):
    output = net.apply(variables._replace(params=params), x, train=train)
    return set_matching.loss(output.out, objects), output

  def matching(x, observed):
    found, gradient = jax.value_and_grad(loss, has_aux=True)(
      variables.params, x
    )
    norms = trees.squared_norm(gradient) * trees.squared_norm(observed)
    cosine = trees.dot(gradient, observed) / jnp.sqrt(norms)
    return 1 - cosine, (*found, gradient, cosine)

  program = jax.jit(jax.value_and_grad(matching, has_aux=True))
  # The first call is for the gradient only; any direction will do.
  (_, (*_, observed, _)), _ = program(target, variables.params)
  (_, found), dx = program(x, observed)
  return Evaluation(observed, *found, dx)


def difference(value, golden):
  """Returns the error of an array relative to the golden's norm."""
  value = np.asarray(value, np.float64)
  assert value.shape == golden.shape
  return np.linalg.norm(value - golden) / np.linalg.norm(golden)


def without_zeros(tensors, golden):
  """Returns the errors of a gradient's tensors, of those that are not zero."""
  norms, errors = draws.norms(tensors, golden), draws.errors(tensors, golden)
  largest = max(norms.values())
  for name, norm in norms.items():
    if norm < 1e-9 * largest:
      assert np.linalg.norm(tensors[name]) < 1e-5 * largest, name
      del errors[name]
  return errors, {*norms} - {*errors}


CASES = [
  (name, mode)
  for name, case in detr_cases.CASES.items()
  for mode in detr_cases.modes(case)
]


@pytest.mark.parametrize(('name', 'mode'), CASES)
def test_values_and_derivatives(name, mode):
  _, _, golden, *_, objects = subject(name)
  golden = {
    key.removeprefix(f'{mode}/'): value
    for key, value in golden.items()
    if key.startswith(f'{mode}/')
  }
  found = evaluate(name, mode == 'train')
  out = found.output.out
  matching = set_matching.match(out, objects)
  valid = np.asarray(objects.valid)[:, None]
  np.testing.assert_array_equal(
    np.where(valid, matching, -1), golden['matching']
  )
  terms = set_matching.terms(out, objects, matching)
  gradient = convert.to_state_dict(types.Variables(found.gradient, {}))
  leaves, zero = without_zeros(gradient, golden['gradient'])
  errors = {
    **{k: difference(out[k], golden[k]) for k in ('boxes', 'scores')},
    **{k: difference(terms[k], golden[k]) for k in ('class', 'l1', 'giou')},
    **{k: difference(getattr(found, k), golden[k]) for k in ('loss', 'dx')},
    'cosine': abs(float(found.cosine) / float(golden['cosine']) - 1),
    'gradient': max(leaves.values()),
  }
  if mode == 'train':
    state = convert.to_state_dict(types.Variables({}, found.output.stats))
    errors['state'] = max(draws.errors(state, golden['state']).values())
  print(name, mode, errors)  # shown by pytest -rP
  assert max(errors.values()) < TOLERANCE, errors
  dead = 'transformer.decoder.layers.0.self_attn.in_proj_weight'
  before_norms = {n for n in zero if mode == 'train' and n.endswith('bias')}
  assert zero - before_norms == {dead}


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_norms_that_are_frozen_have_one_mode(mode):
  name = 'detr_auxiliary'
  net, variables, golden, x, *_ = subject(name)
  output = jax.jit(lambda x: net.apply(variables, x, train=mode == 'train'))(x)
  assert difference(output.out['boxes'], golden['eval/boxes']) < TOLERANCE
  jax.tree.map(np.testing.assert_array_equal, output.stats, variables.stats)
  frozen = trees.named_leaves(variables.frozen)
  assert frozen
  assert all('.bn' in n or '.downsample.1.' in n for n in frozen)
  trained = trees.named_leaves(variables.params)
  assert not [n for n in trained if '.bn' in n or '.downsample.1.' in n]


def test_moments_equal_those_of_the_gradient(check_moments):
  name = 'detr_auxiliary'
  net, variables, _, x, _, objects = subject(name)
  explicit = evaluate(name, False)

  @jax.jit
  def moments(x, observed):
    return gradient_moments.gradient_moments(
      net,
      lambda output: set_matching.loss(output.out, objects),
      variables,
      x,
      observed,
    )

  found, _ = moments(x, explicit.observed)
  check_moments(found, explicit.gradient, explicit.observed)


@pytest.mark.parametrize('name', PARAMETERS)
def test_number_of_parameters(name):
  count, options = PARAMETERS[name]
  variables = inspect.abstract_variables(detr.detr(**options))
  assert base.count(variables) == count


def test_stock_names_are_those_of_the_authors():
  net = detr.detr()
  state = {
    name: value.shape
    for name, value in convert.to_state_dict(
      jax.tree.map(
        lambda s: np.broadcast_to(np.float32(0), s.shape),
        inspect.abstract_variables(net),
      )
    ).items()
  }
  expected = {
    'backbone.0.body.conv1.weight': (64, 3, 7, 7),
    'backbone.0.body.bn1.running_var': (64,),
    'backbone.0.body.layer4.0.downsample.1.weight': (2048,),
    'input_proj.weight': (256, 2048, 1, 1),
    'query_embed.weight': (100, 256),
    'transformer.encoder.layers.5.self_attn.in_proj_weight': (768, 256),
    'transformer.encoder.layers.5.linear2.weight': (256, 2048),
    'transformer.encoder.layers.0.norm2.weight': (256,),
    'transformer.decoder.layers.5.multihead_attn.in_proj_bias': (768,),
    'transformer.decoder.layers.5.multihead_attn.out_proj.weight': (256, 256),
    'transformer.decoder.layers.0.norm3.bias': (256,),
    'transformer.decoder.norm.weight': (256,),
    'class_embed.weight': (92, 256),
    'bbox_embed.layers.2.bias': (4,),
  }
  assert expected == {n: state[n] for n in expected}
  # 53 convolutions and norms, 6 layers of 12 and of 18 tensors, and the rest.
  assert len(state) == 53 + 4 * 53 + 6 * 12 + 6 * 18 + 2 + 2 + 1 + 6 + 2
  assert not [n for n in state if '.fc.' in n or 'encoder.norm' in n]


@pytest.mark.parametrize(
  ('logits', 'words'),
  [
    (92, r'class_embed.bias \(92,\) for \(81,\).*num_classes=91$'),
    (91, r'class_embed.bias \(91,\) for \(81,\).*num_classes=90$'),
    (81, ''),
  ],
)
def test_weights_of_other_classes_are_refused_in_one_line(logits, words):
  net = models.MODELS['detr_resnet50']((16, 16, 3), 80, **TINY)
  shapes = {n: e.shape for n, e in torch_names.of_net(net).items()}
  own = {n: np.ones(shape, np.float32) for n, shape in shapes.items()}
  own['class_embed.weight'] = np.ones((logits, 16), np.float32)
  own['class_embed.bias'] = np.ones(logits, np.float32)
  # As torch's norms have it, and the authors' have not.
  own['backbone.0.body.bn1.num_batches_tracked'] = np.int64(1)
  if not words:
    read = convert.to_state_dict(convert.from_state_dict(own, net))
    assert {n: v.shape for n, v in read.items()} == shapes
    return
  with pytest.raises(ValueError, match=words) as info:
    convert.from_state_dict(own, net)
  assert '\n' not in str(info.value)


@pytest.mark.parametrize(
  ('options', 'shape'),
  [
    ({}, (2, 1, 8)),
    ({'decoder_layers': 3, 'auxiliary': True}, (2, 3, 8)),
    ({'decoder_layers': 3, 'auxiliary': False}, (2, 1, 8)),
    ({'decoder_layers': 0}, (2, 1, 3 * 4)),
  ],
)
def test_shapes_of_outputs(options, shape):
  net = detr.detr((9, 14, 3), 5, **{**TINY, **options})
  variables = inspect.abstract_variables(net)
  x = jax.ShapeDtypeStruct((2, 9, 14, 3), np.float32)
  out = jax.eval_shape(lambda v, x: net.apply(v, x).out, variables, x)
  assert out['boxes'].shape == (*shape, 4)
  assert out['scores'].shape == (*shape, 6)
  # The last linear layer is the one of the classes.
  assert inspect.classifier(net) == 'class_embed'
  # Moments are sums over layers, so that none may be left out.
  leaves = {n.rpartition('.')[0] for n in inspect.leaf_names(net)}
  assert leaves == inspect.sites(net).keys()


def test_positions_number_by_number():
  height, width, dim = 3, 5, 8
  found = detr.sines(height, width, dim)
  assert found.shape == (15, 8)
  for row in range(height):
    for column in range(width):
      cell = found[row * width + column]
      for half, share in enumerate([(row + 1) / height, (column + 1) / width]):
        for i in range(4):
          angle = 2 * math.pi * share / 10000 ** (i // 2 / 2)
          function = math.cos if i % 2 else math.sin
          np.testing.assert_allclose(
            cell[4 * half + i], function(angle), atol=1e-5
          )


def test_fresh_first_attention_of_the_decoder_is_dead():
  """Without biases, its output does not depend on its weights either."""
  net = detr.detr((16, 16, 3), 5, **TINY)
  variables = jax.jit(net.init)(jax.random.key(0))
  x = jax.random.uniform(jax.random.key(1), (1, 16, 16, 3))

  @jax.jit
  @jax.grad
  def slope(params):
    out = net.apply(variables._replace(params=params), x).out
    return (out['boxes'] ** 2).sum() + (out['scores'] ** 2).sum()

  found = trees.named_leaves(slope(variables.params))
  block = 'transformer.decoder.layers.0.self_attn'
  largest = max(float(jnp.linalg.norm(v)) for v in found.values())
  for leaf in ('in_proj.kernel', 'out_proj.kernel'):
    assert np.linalg.norm(found[f'{block}.{leaf}']) < 1e-6 * largest
  assert np.linalg.norm(found[f'{block}.out_proj.bias']) > 1e-3 * largest


def test_more_can_be_frozen_and_a_layer_put_in_front():
  net = detr.detr((16, 16, 3), 5, **{**TINY, 'batch_norm': 'frozen'})
  part = subset.subset(net, freeze=['backbone.0.body.conv1.*'])
  before, after = (inspect.abstract_variables(each) for each in (net, part))
  added = trees.named_leaves(after.frozen).keys() - (
    trees.named_leaves(before.frozen).keys()
  )
  assert added == {'backbone.0.body.conv1.kernel'}
  assert jax.tree.structure(base.whole(before)) == (
    jax.tree.structure(base.whole(after))
  )
  altered = net.edit(
    lambda module, rngs: setattr(
      module, 'front', layers.Conv(3, 3, 1, rngs=rngs)
    )
  )
  extra = inspect.leaf_names(altered) - inspect.leaf_names(net)
  assert extra == {'front.kernel', 'front.bias'}


def test_dropout_draws_by_key():
  net = detr.detr((16, 16, 3), 5, **{**TINY, 'dropout': 0.5})
  variables = jax.jit(net.init)(jax.random.key(0))
  x = jnp.full((2, 16, 16, 3), 0.3)
  apply = jax.jit(lambda key: net.apply(variables, x, train=True, key=key))
  a, b, c = (apply(jax.random.key(i)).out['boxes'] for i in (0, 0, 1))
  np.testing.assert_array_equal(a, b)
  assert np.all(a != c)
  with pytest.raises(ValueError, match=r'Expected a key for a training pass'):
    apply(None)


@pytest.mark.parametrize(('options', 'message'), REFUSED)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], message):
  with pytest.raises(ValueError, match=message) as info:
    detr.detr(**{'image_shape': (64, 64, 3), **options})
  assert '\n' not in str(info.value)
