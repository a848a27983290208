"""What every row of VERIFIERS promises, and an attack that each must see."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax.clients import fedsgd
from giajax.models import base as models
from giajax.models import from_nnx
from giajax.models import layers
from giajax.models import subset
from giajax.models.parts import norms
from giajax.tasks import classification
from giajax.verify import base
from giajax.verify import VERIFIERS
from giajax.verify.parts import weights

K, B, SHAPE = 4, 8, (6, 6, 3)
KEY = jax.random.key(0)
FIRST, HEAD = 'hidden', 'fc'


class Net(nnx.Module):
  """A convolution, BatchNorm, a hidden layer and a classifier."""

  def __init__(self, rngs):
    self.conv = layers.Conv(3, 6, 3, 1, 1, rngs=rngs)
    self.norm = norms.BatchNorm(6, rngs=rngs)
    self.hidden = layers.Linear(6 * 36, 40, rngs=rngs)
    self.fc = layers.Linear(40, K, rngs=rngs)

  def __call__(self, x):
    x = layers.flatten(jax.nn.relu(self.norm(self.conv(x))))
    return self.fc(jax.nn.relu(self.hidden(x)))


@functools.cache
def view():
  net = from_nnx.from_nnx(Net, models.make_spec('tiny', SHAPE, K, 'half'))
  return base.view(net, classification.classification(K))


@functools.cache
def fresh(seed=0):
  return view().net.init(jax.random.key(seed))


@functools.cache
def probe():
  x = jax.random.uniform(jax.random.key(1), (B, *SHAPE))
  return types.Batch(x, jnp.arange(B, dtype=jnp.int32) % K)


def received(seed=0, **changed):
  """Returns a message with leaves changed: hidden__kernel=(leaf -> leaf)."""
  parts = []
  for part in fresh(seed):
    leaves = trees.named_leaves(part)
    for name, change in changed.items():
      name = name.replace('__', '.')
      if name in leaves:
        leaves[name] = jnp.asarray(change(leaves[name]), jnp.float32)
    parts.append(trees.nested(leaves))
  return types.ServerMessage(types.Variables(*parts))


def bins(like):
  """A mean of everything in each unit."""
  return jnp.full(like.shape, 1 / like.shape[0])


def cuts(like):
  return -jnp.linspace(0.0, 0.3, len(like))


def mirrored(like):
  """Trap weights: a row's positive half is 0.9 of its negative half."""
  rng = np.random.default_rng(0)
  rows = []
  for _ in range(like.shape[1]):
    half = np.abs(rng.normal(size=like.shape[0] // 2))
    row = np.concatenate([-half, 0.9 * half])
    rows.append(rng.permutation(row))
  return np.stack(rows, 1)


def selecting(like):
  """Unit i answers image i of the probe alone."""
  path = FIRST
  out = view().net.apply(fresh(), probe().x, taps=[f'{path}.input'])
  inputs = np.asarray(out.taps[f'{path}.input'])
  targets = np.resize(np.eye(B), (like.shape[1], B)).T - 0.5
  return np.linalg.lstsq(inputs, targets, rcond=None)[0]


def identity(like):
  kernel = np.zeros(like.shape)
  for unit in range(like.shape[3]):
    kernel[1, 1, unit % 3, unit] = 1
  return kernel


def one_row(like):
  return jnp.zeros_like(like).at[:, 1].set(0.5)


def one_column(like):
  return jnp.zeros_like(like).at[3].set(300.0)


def surplus():
  message = received()
  leaves = trees.named_leaves(message.variables.params)
  leaves['front.kernel'] = jnp.ones((108, 9))
  leaves['front.back.kernel'] = jnp.ones((9, 108))
  params = trees.nested(leaves)
  return types.ServerMessage(message.variables._replace(params=params))


# Biases that leave only the last image of the probe, of class 3, unlearned.
def only_last(like):
  return jnp.where(jnp.arange(len(like)) == 0, 60.0, 0.0)


LAST = types.Batch(probe().x, jnp.array([0] * (B - 1) + [3], jnp.int32))
# What a check must object to: a message, or a message and a probe.
ATTACKED = {
  'activation_overlap': lambda: received(
    hidden__kernel=bins, hidden__bias=cuts
  ),
  'architecture': surplus,
  'class_bias': lambda: received(
    fc__bias=lambda b: 1000.0 * (jnp.arange(K) != 2)
  ),
  'class_scale': lambda: received(fc__kernel=one_row),
  'dominance': lambda: (received(fc__bias=only_last), LAST),
  'dsnr': lambda: (received(fc__bias=only_last), LAST),
  'feature_concentration': lambda: received(fc__kernel=one_column),
  'gradient_rank': lambda: received(
    hidden__kernel=selecting, hidden__bias=jnp.zeros_like
  ),
  'identity_kernels': lambda: received(conv__kernel=identity),
  'isolation': lambda: received(
    hidden__kernel=selecting, hidden__bias=jnp.zeros_like
  ),
  'monotone_biases': lambda: received(hidden__kernel=bins, hidden__bias=cuts),
  'proportional_rows': lambda: received(hidden__kernel=bins),
  'running_statistics': lambda: received(norm__var=lambda v: v * 1e8),
  'scale': lambda: received(fc__bias=lambda b: b + 1000.0),
  'sign_split': lambda: received(hidden__kernel=mirrored),
  'update_distance': lambda: received(hidden__kernel=mirrored),
  # Trap weights at a tenth of their strength.
  'update_rank': lambda: received(
    hidden__kernel=lambda k: 0.9 * k + 0.1 * np.std(k) * mirrored(k)
  ),
}


# Checks that try the model on the probe.
TRIED = {
  'activation_overlap',
  'dominance',
  'dsnr',
  'gradient_rank',
  'isolation',
  'update_distance',
}


def run(name, message, images=None):
  known = view()._replace(accepted=fresh())
  return VERIFIERS[name](known)(KEY, message, images or probe())


def test_every_check_has_an_attack():
  assert set(ATTACKED) == set(VERIFIERS)


def stepped(seed):
  """Returns what an honest server sends after a round of one step."""
  client = fedsgd.fedsgd(view().net, classification.classification(K))
  batch = types.Batch(
    jax.random.uniform(jax.random.key(9), (B, *SHAPE)), probe().y
  )
  sent, _ = client.update(KEY, received(seed), batch)
  params = jax.tree.map(
    lambda p, g: p - 0.1 * g, fresh(seed).params, sent.delta
  )
  return types.ServerMessage(fresh(seed)._replace(params=params))


@pytest.mark.parametrize('name', sorted(VERIFIERS))
@pytest.mark.parametrize('seed', range(3))
def test_an_honest_model_passes(name, seed):
  known = view()._replace(accepted=fresh(seed))
  found = VERIFIERS[name](known)(KEY, stepped(seed), probe())
  assert not found.flagged, found
  assert np.isfinite(found.score) and found.score >= 0


@pytest.mark.parametrize('name', sorted(VERIFIERS))
def test_its_attack_is_flagged_in_words(name):
  attack = ATTACKED[name]()
  message, images = attack if type(attack) is tuple else (attack, probe())
  found = run(name, message, images)
  assert found.flagged and type(found.flagged) is bool
  assert found.score > run(name, received()).score
  assert found.evidence.endswith('.') and '\n' not in found.evidence
  assert '{' not in found.evidence
  assert any(c.isdigit() for c in found.evidence)
  again = VERIFIERS[name](view()._replace(accepted=fresh()))(
    KEY, message, images
  )
  assert again == found


@pytest.mark.parametrize('wrong', [jnp.nan, jnp.inf])
@pytest.mark.parametrize('name', sorted(VERIFIERS))
def test_a_pass_that_is_not_finite_is_an_objection(name, wrong):
  asked = []

  def examples(variables, images):
    asked.append(images)
    found = view().examples(variables, images)
    return jax.tree.map(lambda a: a.at[-1].set(wrong), found)

  known = view()._replace(accepted=fresh(), examples=examples)
  found = VERIFIERS[name](known)(KEY, stepped(0), probe())
  assert bool(asked) == (name in TRIED)
  if asked:
    assert found.flagged and found.score == np.inf
    assert found.evidence.endswith(' is not finite.')
  else:
    assert not found.flagged


@pytest.mark.parametrize('name', sorted(VERIFIERS))
def test_weights_of_nothing_else_are_no_crash(name):
  empty = types.ServerMessage(types.Variables({}, {}))
  found = run(name, empty)
  assert found.flagged is (name == 'architecture')
  assert found.ran is (name == 'architecture')
  other = types.ServerMessage(
    types.Variables({'fc': {'kernel': jnp.zeros((3, 2))}}, {})
  )
  assert np.isfinite(run(name, other).score)


def test_what_is_wrong_with_an_architecture():
  found = run('architecture', surplus())
  assert 'surplus: front.back.kernel, front.kernel' in found.evidence
  assert 'front 108 to 9, front.back 9 to 108' in found.evidence
  assert found.score == 4


@pytest.mark.parametrize('count', [2, 5, 40])
def test_bins_are_seen_in_any_order(count):
  order = np.random.default_rng(0).permutation(40)
  wide = lambda b: cuts(b)[order]  # noqa: E731
  found = run(
    'monotone_biases', received(hidden__kernel=bins, hidden__bias=wide)
  )
  assert found.score == 1.0
  alike = received(hidden__bias=lambda b: b * 0)
  assert run('monotone_biases', alike).score == 0
  some = received(hidden__kernel=lambda k: k.at[:, :count].set(k[:, :1]))
  assert run('monotone_biases', some).score == pytest.approx(count / 40)


@pytest.mark.parametrize(
  'count, least, most', [(40, 6.5, 7), (20, 6.2, 6.7), (2, 5.2, 5.7), (1, 0, 1)]
)
def test_rows_do_not_hide_among_honest_ones(count, least, most):
  # Rows 0 .. count - 1 are multiples of the first.
  sizes = jnp.linspace(-1.0, 1.1, count)
  change = lambda k: k.at[:, :count].set(k[:, :1] * sizes)  # noqa: E731
  found = run('proportional_rows', received(hidden__kernel=change))
  assert least <= found.score <= most
  assert found.flagged == (count > 1)


@pytest.mark.parametrize(
  'changed, decades',
  [
    (dict(norm__var=lambda v: v * 1e8), 4.0),
    (dict(norm__var=lambda v: v.at[2].mul(1e8)), 4.0),
    (dict(norm__mean=lambda m: m + 1e3), 3.0),
    (dict(conv__kernel=lambda k: k * 1e-2, conv__bias=lambda b: b * 1e-2), 2.0),
    (dict(norm__bias=lambda b: b + 1.0, norm__scale=lambda s: s * 9.0), 0.0),
  ],
)
def test_statistics_are_off_by_hand(changed, decades):
  found = run('running_statistics', received(**changed))
  # What a fresh network is off by comes on top, and is taken away.
  assert found.score == pytest.approx(decades, abs=0.3)
  assert found.flagged == (decades > 0)


def test_what_blinds_other_checks_is_seen():
  small = lambda b: jnp.full_like(b, 0.01)  # noqa: E731
  weights = dict(hidden__kernel=selecting, hidden__bias=small)
  open_, blind = (
    received(**weights, norm__var=lambda v, by=by: v * by) for by in (1, 1e8)
  )
  for name in ('gradient_rank', 'isolation'):
    assert run(name, open_).flagged and not run(name, blind).flagged
  found = run('running_statistics', blind)
  assert found.flagged and 'norm' in found.evidence
  assert not run('running_statistics', open_).flagged


def test_statistics_of_its_own_images_are_no_objection():
  own = view().statistics(fresh(), probe())['norm']
  mean, var = (lambda _, a=a: a for a in own)
  found = run('running_statistics', received(norm__mean=mean, norm__var=var))
  assert found.score == 0 and not found.flagged


def test_statistics_that_overflow_are_an_objection():
  wrong = received(conv__kernel=lambda k: k.at[0, 0, 0, 0].set(3e38))
  found = run('running_statistics', wrong)
  assert found.flagged and found.score == np.inf


@pytest.mark.parametrize('value', [np.nan, np.inf, -1.0])
def test_statistics_that_are_none_are_an_objection(value):
  wrong = received(norm__var=lambda v: v.at[0].set(value))
  found = run('running_statistics', wrong)
  assert found.flagged and found.score == np.inf


def test_the_share_of_one_image_by_hand():
  found = run('dominance', received(fc__bias=only_last), LAST)
  assert found.score == pytest.approx(1.0, abs=1e-6)
  norms = view().examples(fresh(), probe()).norms['fc.kernel']
  one = view().examples(fresh(), jax.tree.map(lambda a: a[2:4], probe()))
  np.testing.assert_allclose(one.norms['fc.kernel'], norms[2:4], rtol=1e-4)


def test_update_distance_needs_what_was_accepted_and_takes_a_rate():
  alone = run_bare('update_distance')
  assert not alone.ran and 'no weights accepted' in alone.evidence
  both = received(
    hidden__kernel=lambda k: k + 1.0,
    conv__kernel=lambda k: k + 1.0,
    fc__kernel=lambda k: k + 1.0,
  )
  spread = run('update_distance', both)
  known = view()._replace(accepted=fresh(), learning_rate=0.01)
  rated = VERIFIERS['update_distance'](known)(KEY, both, probe())
  assert rated.flagged and rated.score > spread.score


def test_update_distance_knows_what_training_mode_does():
  """Running variances far too large leave no gradient in inference mode."""
  before = received(norm__var=lambda v: v * 1e8).variables
  net, task = view().net, classification.classification(K)
  client = fedsgd.fedsgd(net, task, train_mode=True)
  sent, _ = client.update(KEY, types.ServerMessage(before), probe())
  params = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, sent.delta)
  message = types.ServerMessage(before._replace(params=params))
  known = view()._replace(accepted=before, learning_rate=0.1)
  found = VERIFIERS['update_distance'](known)(KEY, message, probe())
  assert found.score == pytest.approx(0, abs=1e-3)
  blind = VERIFIERS['update_distance'](known._replace(training=None))
  assert blind(KEY, message, probe()).flagged


def test_update_rank_is_that_of_the_change():
  alone = run_bare('update_rank')
  assert not alone.ran and 'no weights accepted' in alone.evidence
  kernel = np.asarray(fresh().params['hidden']['kernel'])
  for scale in (1.0, 0.9):
    same = run('update_rank', received(hidden__kernel=scaled(scale)))
    assert not same.ran and 'did not change' in same.evidence
  rng = np.random.default_rng(0)
  left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in kernel.shape)
  most = min(kernel.shape)
  for count, score in ((most // 4, 0.0), (most, 0.75)):
    moved = kernel + left[:, :count] @ right[:count]
    found = run('update_rank', received(hidden__kernel=as_is(moved)))
    assert found.score == pytest.approx(score, abs=0.03)


def scaled(factor):
  return lambda leaf: factor * leaf


def as_is(value):
  return lambda leaf: value


def run_bare(name):
  return VERIFIERS[name](view())(KEY, received(), probe())


def test_frozen_weights_do_not_move():
  net = subset.subset(view().net, freeze=['conv.*'])
  old = net.init(jax.random.key(0))
  known = base.view(net, classification.classification(K), accepted=old)
  check = VERIFIERS['update_distance'](known)
  assert not check(KEY, types.ServerMessage(old), probe()).flagged
  leaves = trees.named_leaves(old.frozen)
  leaves['conv.bias'] = leaves['conv.bias'].at[0].add(1e-3)
  moved = old._replace(frozen=trees.nested(leaves))
  found = check(KEY, types.ServerMessage(moved), probe())
  assert found.flagged and 'conv.bias' in found.evidence


@pytest.mark.parametrize('name', ['monotone_biases', 'sign_split'])
def test_units_are_drawn(name, monkeypatch):
  seen = []

  def sample(key, size, most):
    seen.append((jax.random.key_data(key).tolist(), size, most))
    return draw(key, size, most)

  draw = weights.sample
  monkeypatch.setattr(weights, 'sample', sample)
  run(name, received())
  assert seen and seen[0][0] == jax.random.key_data(KEY).tolist()
  first, again, other = (draw(jax.random.key(k), 900, 64) for k in (0, 0, 1))
  assert list(first) == list(again) != list(other)
  assert len(set(first)) == 64 and list(draw(KEY, 5, 64)) == [*range(5)]


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda b: jax.tree.map(lambda a: a[:1], b), 'at least 8 images'),
    (lambda b: b._replace(x=b.x[..., :1]), 'at least 8 images'),
    (lambda b: b._replace(x=b.x * 255), r'in \[0, 1\]'),
    (lambda b: b._replace(x=b.x.at[0, 0, 0, 0].set(jnp.nan)), 'NaN'),
    (lambda b: b._replace(y=b.y + K), 'every label'),
  ],
)
def test_probes_that_cannot_be_used(change, words):
  with pytest.raises(ValueError, match=words):
    base.check_probe(change(probe()), view().net)


def test_a_rate_is_positive():
  with pytest.raises(
    ValueError, match='learning_rate > 0; got learning_rate=0'
  ):
    base.view(view().net, classification.classification(K), learning_rate=0.0)
