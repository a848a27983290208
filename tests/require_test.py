"""Tests of giajax.require: one sentence of three parts for each mistake."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import require
from giajax import world as worlds
from giajax.clients import aggregate
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.models import subset
from giajax.models.classification import alexnet
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.tasks import classification

TASK = classification.classification(3)
NET = mlp.mlp((2, 2, 1), 3, widths=(4,))
NORMED = resnet.resnet((4, 4, 3), 3, blocks=(1,), width=0.05)
ALONE = fedsgd.fedsgd(NET, TASK)
STEPS = fedavg.fedavg(NET, TASK, num_images=2, epochs=2)
HEAD = 'layers.1'

number = functools.partial
NUMBERS = [
  (require.whole, (1, 7, np.int64(3)), (0, -1, 2.0, True, '3', 2**31)),
  (number(require.whole, least=0), (0, 5), (-1, False)),
  (number(require.whole, least=0, most=2), (0, 2), (-1, 3)),
  (
    require.finite,
    (0, -2.5, np.float32(1)),
    (math.nan, math.inf, '1', 10**400),
  ),
  (require.positive, (1, 1e-9), (0, -1.0, math.inf, math.nan, True, None)),
  (require.not_negative, (0, 2.0), (-1e-9, math.inf, math.nan, False)),
  (require.fraction, (1e-9, 0.5, 1), (0, 1.5, -1, math.nan, True, 'x')),
  (number(require.fraction, zero=True), (0, 1), (-0.1, 1.1)),
  (number(require.fraction, one=False), (0.5,), (0, 1)),
  (number(require.fraction, zero=True, one=False), (0,), (1, 2)),
  (number(require.one_of, options=('a', 'b')), ('a', 'b'), ('c', None)),
]


def sentence(check, *args, **kwargs):
  """Returns what a check says, and looks at its three parts."""
  with pytest.raises(ValueError) as error:
    check(*args, **kwargs)
  text = str(error.value)
  assert text.startswith('Expected ') and '\n' not in text
  assert [part.split()[0] for part in text.split('; ')[1:2]] == ['got']
  assert text.endswith('; do this instead')
  return text


@pytest.mark.parametrize(('check', 'right', 'wrong'), NUMBERS)
def test_numbers_and_names(check, right, wrong):
  for value in right:
    check(value, 'size')
  for value in wrong:
    text = sentence(check, value, 'size', advice='do this instead')
    assert f'got size={value!r}' in text


@pytest.mark.parametrize(
  ('zero', 'one', 'interval'),
  [
    (False, False, '(0, 1)'),
    (False, True, '(0, 1]'),
    (True, False, '[0, 1)'),
    (True, True, '[0, 1]'),
  ],
)
def test_the_interval_is_named(zero, one, interval):
  text = sentence(
    require.fraction, 2, 'p', zero=zero, one=one, advice='do this instead'
  )
  assert f'p in {interval}' in text


def test_batches_and_clients():
  world = worlds.World(NET, TASK, ALONE, 1)
  require.batch_of_one(world, 'a test')
  require.one_step(ALONE, 'a test')
  require.one_client(ALONE, 'a test')
  advice = 'do this instead'
  several = world._replace(batch_size=2)
  text = sentence(require.batch_of_one, several, 'a test', advice=advice)
  assert 'for a test; got batch_size=2' in text
  text = sentence(require.one_step, STEPS, 'a test', advice=advice)
  assert 'for a test; got local_steps=' in text
  both = aggregate.aggregate(ALONE, 2)
  text = sentence(require.one_client, both, 'a test', advice=advice)
  assert 'for a test; got clients=2' in text


def test_batch_norm_in_training_mode():
  still = fedsgd.fedsgd(NORMED, TASK)
  require.no_batch_statistics(still, 'a test')
  require.no_batch_statistics(ALONE._replace(train_mode=True), 'a test')
  text = sentence(
    require.no_batch_statistics,
    still._replace(train_mode=True),
    'a test',
    advice='do this instead',
  )
  assert 'train_mode=True' in text


def test_random_layers():
  net = alexnet.alexnet((32, 32, 3), 3, width=0.05, dropout=0.5)
  require.no_random_layers(net, 'a test', train=False)
  first = 'features.0.input'  # no dropout in front of the first layer
  require.no_random_layers(net, 'a test', train=True, tap=first)
  for tap in (None, 'classifier.input'):
    text = sentence(
      require.no_random_layers,
      net,
      'a test',
      train=True,
      tap=tap,
      advice='do this instead',
    )
    assert ("in front of 'classifier'" in text) == (tap is not None)


def test_what_of_the_classifier_is_trained():
  advice = 'do this instead'
  require.classifier_bias(NET, 'a test')
  require.classifier_kernel(NET, 'a test')
  kernel = subset.subset(NET, [f'{HEAD}.kernel'])
  bias = subset.subset(NET, [f'{HEAD}.bias'])
  require.classifier_kernel(kernel, 'a test')
  require.classifier_bias(bias, 'a test')
  text = sentence(require.classifier_bias, kernel, 'a test', advice=advice)
  assert repr(HEAD) in text
  text = sentence(require.classifier_kernel, bias, 'a test', advice=advice)
  assert repr(HEAD) in text


@pytest.mark.parametrize(
  ('tree', 'difference'),
  [
    ({'a': jnp.ones(2)}, r'of shape no leaf for \(3,\)'),
    ({'a': jnp.ones(2), 'b': jnp.ones(1)}, r'of shape \(1,\) for \(3,\)'),
    ({'a': jnp.ones(2), 'b': jnp.ones(3), 'c': 1.0}, r'\(\) for no leaf'),
    ((jnp.ones(2), jnp.ones(3)), 'no leaf for'),
  ],
)
def test_shapes_while_traced(tree, difference):
  like = {'a': jnp.ones(2), 'b': jnp.ones(3)}
  check = functools.partial(
    require.same_shapes, name='tree', of='the other', advice='correct it'
  )
  jax.eval_shape(lambda a, b: check(a, b), like, like)
  with pytest.raises(ValueError, match=f'^Expected tree of .*{difference}'):
    jax.eval_shape(lambda a, b: check(a, b), tree, like)


def test_containers_of_other_types_are_told_apart():
  with pytest.raises(ValueError, match='got tree=PyTreeDef'):
    require.same_shapes(
      (1.0, 2.0), [1.0, 2.0], 'tree', of='a list', advice='make it a list'
    )
