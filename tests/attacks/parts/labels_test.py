"""Tests of giajax.attacks.parts.labels."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import ATTACKS
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.clients import fedsgd
from giajax.models import base as models
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models import subset
from giajax.models.classification import convnet
from giajax.models.classification import mlp
from giajax.tasks import classification

K = 10
TASK = classification.classification(K)


class Bare(nnx.Module):
  """Two layers, the classifier without a bias."""

  def __init__(self, rngs):
    self.first = layers.Linear(27, 12, rngs=rngs)
    self.last = layers.Linear(12, K, bias=False, rngs=rngs)

  def __call__(self, x):
    return self.last(jnp.tanh(self.first(layers.flatten(x))))


def bare():
  return from_nnx.from_nnx(Bare, models.make_spec('bare', (3, 3, 3), K, 'none'))


def world(net, batch_size):
  return worlds.World(net, TASK, fedsgd.fedsgd(net, TASK), batch_size)


def inferred(rule, net, y, weight=1.0, fresh=True, train_mode=False):
  """Returns what a rule infers of each row of y [draws, B], a net a row."""
  client = fedsgd.fedsgd(net, TASK, train_mode=train_mode)
  rule = rule(worlds.World(net, TASK, client, y.shape[1]))
  variables = net.init(jax.random.key(0))

  def one(key, y):
    shape = (len(y), *net.spec.image_shape)
    batch = types.Batch(jax.random.uniform(key, shape), y)
    sent = net.init(key) if fresh else variables
    params = jax.tree.map(lambda v: weight * v, sent.params)
    message = types.ServerMessage(sent._replace(params=params))
    update = client.update(key, message, batch)[0]
    found = rule.infer(key, types.Observation(message, update, {}))
    return found, jnp.sort(y)

  run = jax.jit(lambda pairs: jax.lax.map(lambda pair: one(*pair), pairs))
  return run((jax.random.split(jax.random.key(3), len(y)), y))


def draws(count, batch_size, distinct=False):
  rng = np.random.default_rng(0)
  rows = [rng.choice(K, batch_size, replace=not distinct) for _ in range(count)]
  return jnp.asarray(rows, jnp.int32)


def miscounted(found, truth):
  """Returns [draws]: how many labels of each batch are wrong."""

  def count(y):
    return np.stack([np.bincount(row, minlength=K) for row in y])

  return np.abs(count(found) - count(truth)).sum(axis=1) // 2


@pytest.mark.parametrize(
  'make', [bare, lambda: mlp.mlp((3, 3, 3), K, widths=(12,))]
)
def test_idlg_is_right_of_every_image(make):
  y = draws(100, 1)
  assert len(np.unique(y)) == K
  found, truth = inferred(labels.idlg, make(), y)
  np.testing.assert_array_equal(found, truth)


def test_idlg_wants_one_image():
  with pytest.raises(ValueError, match=r'batch_size=2.*bias_corrected'):
    labels.idlg(world(mlp.mlp((3, 3, 3), K), 2))


def only(leaf):
  """Returns a network of which the client trains a leaf of the classifier."""
  net = mlp.mlp((3, 3, 3), K, widths=(12,))
  return subset.subset(net, [f'layers.1.{leaf}'])


@pytest.mark.parametrize(
  ('rule', 'leaf', 'batch_size'),
  [('idlg', 'bias', 1), ('idlg', 'kernel', 1), ('bias_corrected', 'bias', 24)],
)
def test_rules_ask_only_for_what_they_read(rule, leaf, batch_size):
  y = draws(10, batch_size)
  net = only(leaf)
  sent = trees.named_leaves(net.init(jax.random.key(0)).params)
  assert list(sent) == [f'layers.1.{leaf}']
  found, truth = inferred(labels.RULES[rule], net, y, fresh=False)
  np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
  ('rule', 'leaf', 'message'),
  [
    ('bias_corrected', 'kernel', 'bias .*; use column_minimum'),
    ('column_minimum', 'bias', 'kernel .*; use bias_corrected'),
    ('ilrg', 'bias', 'kernel .*; use bias_corrected'),
    ('ilrg', 'kernel', 'bias .*; use column_minimum'),
  ],
)
def test_rules_refuse_an_update_without_what_they_read(rule, leaf, message):
  with pytest.raises(ValueError, match=f'^Expected an update that .*{message}'):
    labels.RULES[rule](world(only(leaf), 1))
  frozen = subset.subset(mlp.mlp((3, 3, 3), K, widths=(12,)), ['layers.0.*'])
  for row in ('idlg', rule):
    with pytest.raises(ValueError, match=r'^Expected an update that covers'):
      labels.RULES[row](world(frozen, 1))


def test_an_attack_runs_on_the_bias_of_the_classifier_alone():
  """Its labels are right, whatever comes back of the image."""
  net = only('bias')
  there = world(net, 1)
  attack = ATTACKS['idlg'](
    there, num_steps=2, memory_size=2, max_linesearch_steps=2
  )
  message = types.ServerMessage(net.init(jax.random.key(0)))
  x = jax.random.uniform(jax.random.key(1), (1, 3, 3, 3))
  batch = types.Batch(x, jnp.array([7], jnp.int32))
  update = jax.jit(there.client.update)(jax.random.key(2), message, batch)[0]
  obs = types.Observation(message, update, {})

  def run(attack):
    @jax.jit
    def one_step(obs, hp):
      state = attack.init(jax.random.key(3), obs, hp)
      state, info = attack.step(jax.random.key(4), state, obs, hp)
      return attack.read(state, obs, hp), info

    return one_step(obs, attack.hparams)

  found, info = run(attack)
  assert found.batch.y.tolist() == [7] and info.finite
  matching = ATTACKS['inverting_gradients'](there, num_steps=2)
  rule = labels.bias_corrected(there)
  _, info = run(compose.with_labels(matching, rule))
  assert info.finite


@pytest.mark.parametrize('train_mode', [False, True])
def test_bias_corrected_counts_repeated_labels(train_mode):
  net = convnet.convnet((9, 9, 3), K, width=2)
  y = draws(8, 24)
  assert all(len(np.unique(row)) < 24 for row in y)
  found, truth = inferred(
    labels.bias_corrected, net, y, fresh=False, train_mode=train_mode
  )
  np.testing.assert_array_equal(found, truth)


def test_bias_corrected_of_one_class_only():
  net = mlp.mlp((3, 3, 3), K, widths=(12,))
  y = jnp.full((2, 24), 7, jnp.int32)
  found, truth = inferred(labels.bias_corrected, net, y)
  np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
  ('weight', 'least', 'most'), [(1.0, 0.0, 0.0), (5.0, 0.2, 6.0)]
)
def test_bias_corrected_errs_where_outputs_depend_on_the_image(
  weight, least, most
):
  """Confident networks answer noise unlike images; a quarter may be wrong."""
  net = mlp.mlp((3, 3, 3), K, widths=(12,))
  y = draws(20, 24)
  wrong = miscounted(*inferred(labels.bias_corrected, net, y, weight))
  assert least <= wrong.mean() <= most
  # Guessing by chance gets more wrong.
  assert wrong.mean() < miscounted(draws(40, 24)[20:], y).mean()


@pytest.mark.parametrize('rule', ['bias_corrected', 'ilrg'])
def test_rules_that_want_a_bias(rule):
  with pytest.raises(ValueError, match=f'bias of .* for {rule}; got bare'):
    labels.RULES[rule](world(bare(), 2))


@pytest.mark.parametrize(
  ('net', 'batch_size'),
  [
    (convnet.convnet((9, 9, 3), K, width=2), 24),
    (mlp.mlp((3, 3, 3), K, widths=(32,), activation='sigmoid'), 12),
    (mlp.mlp((3, 3, 3), K, widths=(32,), activation='sigmoid'), 64),
  ],
)
def test_ilrg_counts_repeated_labels(net, batch_size):
  y = draws(10, batch_size)
  assert all(len(np.unique(row)) < batch_size for row in y)
  right = {}
  for rule in (labels.ilrg, labels.bias_corrected):
    wrong = miscounted(*inferred(rule, net, y, fresh=False))
    right[rule] = 1 - wrong.mean() / batch_size
  assert min(right.values()) >= 0.95


def test_ilrg_is_exact_where_embeddings_are_known():
  """Of equal images with other labels, however confident the network is."""
  net, y = mlp.mlp((3, 3, 3), K, widths=(12,)), draws(1, 24)[0]
  client = fedsgd.fedsgd(net, TASK)
  x = jax.random.uniform(jax.random.key(1), (1, 3, 3, 3))
  batch = types.Batch(jnp.tile(x, (24, 1, 1, 1)), y)
  fresh = net.init(jax.random.key(0))
  params = jax.tree.map(lambda v: 6 * v, fresh.params)
  message = types.ServerMessage(fresh._replace(params=params))
  update = client.update(jax.random.key(0), message, batch)[0]
  obs = types.Observation(message, update, {})
  found, other = (
    rule(worlds.World(net, TASK, client, 24)).infer(jax.random.key(0), obs)
    for rule in (labels.ilrg, labels.bias_corrected)
  )
  np.testing.assert_array_equal(found, jnp.sort(y))
  assert not np.array_equal(other, jnp.sort(y))


def test_ilrg_of_classes_without_gradient_is_finite():
  net = mlp.mlp((3, 3, 3), K, widths=(4,))
  zeros = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0)).params)
  message = types.ServerMessage(net.init(jax.random.key(0)))
  obs = types.Observation(message, types.Update(zeros, {}, jnp.int32(2)), {})
  found = labels.ilrg(world(net, 2)).infer(jax.random.key(0), obs)
  assert found.shape == (2,) and found.min() >= 0 and found.max() < K


def test_column_minimum_of_distinct_labels():
  net = mlp.mlp((3, 3, 3), K, widths=(32,), activation='sigmoid')
  found, truth = inferred(labels.column_minimum, net, draws(40, 3, True))
  assert (miscounted(found, truth) == 0).mean() >= 0.95


def test_column_minimum_by_hand():
  """Class 4 has the lowest entry, class 7 the lowest sum and maximum."""
  net = mlp.mlp((3, 3, 3), K, widths=())
  kernel = jnp.zeros((27, K)).at[:, 7].set(-1.0)
  kernel = kernel.at[3, 4].set(-5.0).at[9, 4].set(9.0)
  delta = {'layers': {'0': {'kernel': kernel, 'bias': jnp.zeros(K)}}}
  obs = types.Observation(None, types.Update(delta, {}, jnp.int32(1)), {})
  for b, expected in ((1, [4]), (2, [4, 7])):
    rule = labels.column_minimum(world(net, b))
    assert rule.infer(jax.random.key(0), obs).tolist() == expected


def test_column_minimum_cannot_repeat():
  net = mlp.mlp((3, 3, 3), K, widths=(32,), activation='sigmoid')
  y = jnp.full((1, 3), 7, jnp.int32)
  found = inferred(labels.column_minimum, net, y)[0][0].tolist()
  assert len(set(found)) == 3 and 7 in found


def test_column_minimum_wants_no_more_images_than_classes():
  net = mlp.mlp((3, 3, 3), K)
  labels.column_minimum(world(net, K))
  with pytest.raises(ValueError, match='batch_size=11; use bias_corrected'):
    labels.column_minimum(world(net, K + 1))


@pytest.mark.parametrize(
  ('counts', 'expected'),
  [
    ([2.3, 0.7, 0.0], [0, 0, 1]),
    ([0.4, 0.3, 2.3], [0, 2, 2]),
    ([3.0, 0.0, 0.0], [0, 0, 0]),
    ([-0.5, 1.9, 1.6], [1, 1, 2]),
  ],
)
def test_largest_remainders(counts, expected):
  found = labels._largest_remainders(jnp.array(counts), 3)
  assert found.tolist() == expected


def test_counts_repeat_each_label():
  net = mlp.mlp((3, 3, 3), K, widths=())
  rule = labels.counts(world(net, 4))
  counts = jnp.array([0, 2, 0, 0, 0, 1, 0, 0, 0, 1])
  obs = types.Observation(None, None, {'label_counts': counts})
  found = jax.jit(rule.infer)(jax.random.key(0), obs)
  assert found.tolist() == [1, 1, 5, 9] and rule.needs == {'label_counts'}
