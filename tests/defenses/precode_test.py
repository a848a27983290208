"""Tests of giajax.defenses.precode."""

import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import keys
from giajax import trees
from giajax import types
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.defenses import precode
from giajax.models import from_callable
from giajax.models import from_nnx
from giajax.models import inspect
from giajax.models.classification import mlp
from giajax.ops import moments
from giajax.tasks import classification

K, SIZE, BETA = 3, 5, 0.3
TASK = classification.classification(K)
KEY = jax.random.key(0)
PLAIN = mlp.mlp((3, 3, 1), K, widths=(4,))
DEFENSE = precode.precode(size=SIZE, beta=BETA)
NET = DEFENSE.on_net(PLAIN)
VARIABLES = NET.init(KEY)
QUERY = types.ServerMessage(VARIABLES)
BATCH = types.Batch(
  jax.random.uniform(jax.random.key(1), (4, 3, 3, 1)), jnp.arange(4) % K
)
CLIENT = fedsgd.fedsgd(NET, TASK)
# The draw is read off the pass that made it.
TAPS = ('layers.1.before.encoder', 'layers.1.before.decoder.input')


def drawn(taps):
  """Returns mean, deviation and noise [B, SIZE] of a pass."""
  mean, raw = np.split(np.asarray(taps[TAPS[0]], np.float64), 2, axis=-1)
  deviation = np.log1p(np.exp(raw))
  return mean, deviation, (taps[TAPS[1]] - mean) / deviation


def reference(params, x, y, noise):
  """The paper's loss of the mlp, in plain jax."""
  first, last = params['layers']['0'], params['layers']['1']
  encoder, decoder = last['before']['encoder'], last['before']['decoder']
  pixels = x.reshape(len(x), -1)
  h = jax.nn.relu(pixels @ first['kernel'] + first['bias'])
  code = h @ encoder['kernel'] + encoder['bias']
  mean, var = code[:, :SIZE], jnp.log(1 + jnp.exp(code[:, SIZE:])) ** 2
  z = mean + jnp.sqrt(var) * noise
  out = (z @ decoder['kernel'] + decoder['bias']) @ last['kernel']
  out = out + last['bias']
  right = out[jnp.arange(len(y)), y]
  nats = jnp.log(jnp.exp(out).sum(-1)) - right
  divergence = 0.5 * (mean**2 + var - 1 - jnp.log(var)).sum(-1)
  return (nats + BETA * divergence).mean()


def close(found, expected, atol=1e-6):
  jax.tree.map(
    lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=atol),
    found,
    expected,
  )


def test_update_is_the_gradient_of_the_papers_loss():
  update, output = CLIENT.update(KEY, QUERY, BATCH, TAPS)
  noise = jnp.asarray(drawn(output.taps)[2], jnp.float32)
  expected = jax.grad(reference)(VARIABLES.params, *BATCH, noise)
  close(update.delta, expected)
  # The divergence has a part in it.
  without = fedsgd.fedsgd(
    precode.precode(size=SIZE, beta=0.0).on_net(PLAIN), TASK
  )
  other = without.update(KEY, QUERY, BATCH)[0].delta
  code = ('layers', '1', 'before', 'encoder', 'kernel')
  for name in code:
    other, expected = other[name], expected[name]
  assert np.abs(other - expected).max() > 0.01


def test_penalty_is_the_weighted_divergence():
  output = NET.apply(VARIABLES, BATCH.x, taps=TAPS, key=KEY)
  mean, deviation, _ = drawn(output.taps)
  each = np.log(1 / deviation) + (deviation**2 + mean**2 - 1) / 2
  np.testing.assert_allclose(
    output.penalty, BETA * each.sum(1).mean(), rtol=1e-4
  )
  assert PLAIN.apply(PLAIN.init(KEY), BATCH.x).penalty == 0


def test_noise_is_normal_and_drawn_from_the_key():
  x = jnp.tile(BATCH.x[:1], (2000, 1, 1, 1))
  passes = [
    NET.apply(VARIABLES, x, taps=TAPS, key=jax.random.key(seed))
    for seed in (0, 0, 1)
  ]
  first, again, other = (drawn(p.taps)[2] for p in passes)
  np.testing.assert_array_equal(first, again)
  assert np.abs(first.mean()) < 4.5 / np.sqrt(first.size)
  np.testing.assert_allclose(first.std(), 1, atol=4.5 / np.sqrt(2 * first.size))
  for pair in ((first, other), (first[:1000], first[1000:])):
    correlation = np.corrcoef(*(part.ravel() for part in pair))[0, 1]
    assert abs(correlation) < 4.5 / np.sqrt(pair[0].size)


def test_a_pass_without_a_key_takes_the_mean():
  taps = NET.apply(VARIABLES, BATCH.x, taps=TAPS).taps
  np.testing.assert_allclose(drawn(taps)[2], 0, atol=1e-6)


def test_the_network_is_the_same_but_for_the_bottleneck():
  assert inspect.head(NET) == 'layers.1'
  before = trees.named_leaves(PLAIN.init(KEY).params)
  after = trees.named_leaves(VARIABLES.params)
  added = set(after) - set(before)
  assert all(name.startswith('layers.1.before.') for name in added)
  assert after['layers.1.before.encoder.kernel'].shape == (4, 2 * SIZE)
  assert after['layers.1.before.decoder.kernel'].shape == (SIZE, 4)
  for name, leaf in before.items():
    # To a rounding: the two are compiled apart.
    np.testing.assert_allclose(leaf, after[name], rtol=1e-6)


def test_fedavg_takes_the_penalty_and_a_draw_a_step():
  rate = 0.2
  client = fedavg.fedavg(NET, TASK, num_images=4, epochs=2, learning_rate=rate)
  params = VARIABLES.params
  for s in range(2):
    message = types.ServerMessage(VARIABLES._replace(params=params))
    step = CLIENT.update(keys.at(KEY, s), message, BATCH)[0].delta
    params = jax.tree.map(lambda p, g: p - rate * g, params, step)
  expected = jax.tree.map(jnp.subtract, params, VARIABLES.params)
  close(client.update(KEY, QUERY, BATCH)[0].delta, expected)


@pytest.mark.parametrize('believed', [False, True])
def test_moments_equal_the_explicit_update(believed):
  client = DEFENSE.on_belief(CLIENT) if believed else CLIENT
  gradient = client.update(KEY, QUERY, BATCH)[0].delta
  target = jax.tree.map(lambda g: g + 0.1, CLIENT.update(KEY, QUERY, BATCH)[0])
  found = client.moments(KEY, QUERY, BATCH, target.delta)[0]
  expected = moments.of_gradients(gradient, target.delta)
  for part in ('dot', 'squared', 'target'):
    close(getattr(found, part), getattr(expected, part))


def test_belief_leaves_out_what_the_noise_moves():
  plain = trees.named_leaves(CLIENT.update(KEY, QUERY, BATCH)[0].delta)
  believed = DEFENSE.on_belief(CLIENT).update(KEY, QUERY, BATCH)[0].delta
  for name, leaf in trees.named_leaves(believed).items():
    kept = name.startswith('layers.0.')
    np.testing.assert_array_equal(leaf, plain[name] if kept else 0 * leaf)


def test_networks_without_a_linear_classifier_are_refused():
  foreign = from_callable.from_callable(
    lambda key: {}, lambda p, x: x, PLAIN.spec
  )
  with pytest.raises(ValueError, match='with a linear classifier'):
    DEFENSE.on_net(foreign)


def test_classifiers_of_others_have_no_place_for_it():
  spec = PLAIN.spec
  pixels = math.prod(spec.image_shape)

  class Ordinary(nnx.Module):
    def __init__(self, rngs):
      self.head = nnx.Linear(pixels, spec.num_classes, rngs=rngs)

    def __call__(self, x):
      return self.head(x.reshape(len(x), -1))

  function = from_callable.from_callable(
    lambda key: {'fc': {'kernel': jnp.ones((pixels, spec.num_classes))}},
    lambda p, x: x.reshape(len(x), -1) @ p['fc']['kernel'],
    spec,
  )
  for net in (function, from_nnx.from_nnx(Ordinary, spec)):
    with pytest.raises(ValueError, match=r'^Expected .*made of giajax layers'):
      DEFENSE.on_net(net)


@pytest.mark.parametrize(
  ('kwargs', 'words'),
  [
    ({'size': 0}, 'size=0'),
    ({'beta': -1.0}, 'beta=-1.0'),
    ({'beta': float('nan')}, 'beta=nan'),
  ],
)
def test_bad_arguments(kwargs, words):
  with pytest.raises(ValueError, match=words):
    precode.precode(**kwargs)
