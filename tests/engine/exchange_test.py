"""Tests of what the attacker gets to see."""

import jax
import numpy as np
import pytest
import tiny

from giajax import types
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine.sources import simulated


def _seen(controls=(False,), **changes):
  setup = build.setup(build.resolve(tiny.config(**changes)))
  items = [simulated.item(setup, 0, control) for control in controls]
  return setup, items, observe(setup, items)


def observe(setup, items):
  play = exchange.player(setup)
  return exchange.observer(setup, play)(items)


@pytest.fixture(scope='module')
def seen():
  """Returns a setup, its items and what is seen, with a control."""
  return _seen((False, True))


def test_control_has_the_norms_and_not_the_content(seen):
  _, _, obs = seen
  for leaf in jax.tree.leaves(obs.update.delta):
    real, noise = leaf.reshape(2, -1)
    norms = np.linalg.norm(real), np.linalg.norm(noise)
    np.testing.assert_allclose(*norms, rtol=1e-4)
    if real.size > 50:
      assert abs(real @ noise) < 0.3 * norms[0] ** 2


def test_side_is_what_was_granted(seen):
  _, items, obs = seen
  np.testing.assert_array_equal(obs.side['labels'][0], items[0].batch.y)


def test_buffers_are_shown_only_if_granted(seen):
  setup, items, _ = seen
  stats = {'bn': {'mean': np.full(2, 3.0), 'var': np.full(2, 4.0)}}

  def update(key, message, batch, taps=()):
    sent = types.Update(message.variables.params, message.variables.stats, 1)
    return sent, None

  setup = setup._replace(
    client=setup.client._replace(update=update),
    message=types.ServerMessage(setup.variables._replace(stats=stats)),
  )
  obs = observe(setup, items)
  np.testing.assert_array_equal(obs.message.variables.stats['bn']['mean'], 3)
  np.testing.assert_array_equal(obs.update.stats['bn']['var'], 4)
  buffers = {'bn_buffers_before', 'bn_buffers_after', 'labels'}
  setup = setup._replace(granted=setup.granted - buffers)
  obs = observe(setup, items)
  np.testing.assert_array_equal(obs.message.variables.stats['bn']['mean'], 0)
  assert obs.update.stats == {}
  assert obs.side == {}


def test_rounds_follow_each_other_and_are_merged(seen):
  setup, items, _ = seen

  def craft(key, message, side, history):
    del key, side
    moved = jax.tree.map(lambda v: v + len(history), message.variables.params)
    return message._replace(variables=message.variables._replace(params=moved))

  def first(history):
    assert len(history) == 3
    return history[0]

  own = jax.tree.leaves(setup.variables.params)
  several = setup.attack._replace(craft=craft, num_rounds=3)
  for attack, moved in ((several, 2), (several._replace(merge=first), 0)):
    obs = observe(setup._replace(attack=attack), items[:1])
    sent = jax.tree.leaves(obs.message.variables.params)
    for a, b in zip(sent, own):
      np.testing.assert_allclose(a[0], b + moved, rtol=1e-6)


def test_update_that_is_not_finite_is_named(seen):
  setup, items, _ = seen
  broken = jax.tree.map(
    lambda leaf: np.full_like(leaf, np.nan), setup.variables
  )
  sent = setup._replace(message=types.ServerMessage(broken))
  with pytest.raises(
    ValueError, match=r'^Expected a finite update of case 0; got NaN or inf in'
  ):
    observe(sent, items[:1])


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda b: b._replace(x=b.x * 255), r'in \[0, 1\] without NaN'),
    (lambda b: b._replace(x=b.x - np.nan), r'in \[0, 1\] without NaN'),
    (lambda b: b._replace(x=b.x[:, 1:]), r'shape \(1, 12, 12, 3\)'),
    (lambda b: b._replace(x=b.x[..., :1]), r'got \(1, 12, 12, 1\)'),
    (lambda b: b._replace(y=b.y * 0 + 16), r'labels in \[0, 16\); got y=16'),
  ],
)
def test_foreign_images_and_labels(seen, change, words):
  setup, _, _ = seen
  taken = setup.dataset.take

  def take(indices) -> types.Batch:
    return change(jax.tree.map(np.asarray, taken(indices)))

  setup = setup._replace(dataset=setup.dataset._replace(take=take))
  with pytest.raises(ValueError, match=f'^Expected .*{words}'):
    simulated.item(setup, 0)


def test_defended_updates_differ_by_case_and_repeat():
  defense = {'name': 'gaussian_noise', 'scale': 0.1}
  _, _, once = _seen(defense=defense)
  _, _, again = _seen(defense=defense)
  _, _, clean = _seen()
  jax.tree.map(np.testing.assert_array_equal, once.update, again.update)
  differences = jax.tree.map(
    lambda a, b: a - b, once.update.delta, clean.update.delta
  )
  flat = np.concatenate([np.ravel(d) for d in jax.tree.leaves(differences)])
  assert abs(flat.std() - 0.1) < 0.01


def test_proxies_and_counts_are_shown_only_if_granted():
  grants = ('labels', 'label_counts', 'proxy_data')
  _, items, obs = _seen(
    threat__grants=grants, threat__proxy_images=3, cases__batch_size=2
  )
  assert obs.side['proxy_data'].shape == (1, 3, 12, 12, 3)
  for image in items[0].batch.x:
    assert not (obs.side['proxy_data'][0] == image).all((1, 2, 3)).any()
  assert obs.side['label_counts'].sum() == 2
