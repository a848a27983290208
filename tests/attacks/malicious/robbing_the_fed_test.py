"""Tests of giajax.attacks.malicious.robbing_the_fed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.malicious import robbing_the_fed
from giajax.attacks.parts import backdrop
from giajax.clients import aggregate
from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.metrics import assignment
from giajax.metrics import METRICS
from giajax.models import base as models
from giajax.models import from_callable
from giajax.models import subset
from giajax.models.classification import convnet
from giajax.models.classification import convnext
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.tasks import classification

SHAPE, K, B = (8, 8, 3), 4, 16
TASK = classification.classification(K)
NET = mlp.mlp(SHAPE, K, widths=(16,), normalisation='cifar10')
SGD = functools.partial(fedsgd.fedsgd, task=TASK)
AVG = functools.partial(
  fedavg.fedavg, task=TASK, num_images=B, batch_size=4, learning_rate=0.01
)


def images(key, count):
  """Smooth images of Gaussian brightness."""
  level, tilt = jax.random.normal(key, (2, count, 1, 1, 1))
  detail = 0.1 * jax.random.uniform(key, (count, *SHAPE))
  slope = 0.03 * tilt * jnp.linspace(-1, 1, SHAPE[0])[:, None, None]
  return jnp.clip(0.45 + 0.08 * level + slope + detail, 0, 1)


def contrasts(count):
  """Images of full contrast, which measurements at random tell apart."""
  coarse = jax.random.uniform(jax.random.key(5), (count * B, 4, 4, 3))
  x = jax.image.resize(coarse, (count * B, *SHAPE), 'linear')
  return x.reshape(count, B, *SHAPE)


def attack(net=NET, client=SGD, batch_size=B, clients=1, **kwargs):
  believed = aggregate.aggregate(client(net), clients)
  world = worlds.World(net, TASK, believed, batch_size)
  return robbing_the_fed.robbing_the_fed(world, **kwargs)


def rounds(net=NET, client=SGD, clients=1, batch_size=B, **kwargs):
  """Returns `(key, x, y) -> Reconstruction` of many batches at once."""
  made = attack(net, client, batch_size, clients, **kwargs)
  given = made.on_net(net)
  real = aggregate.aggregate(client(given), clients)
  sent = types.ServerMessage(given.init(jax.random.key(0)))
  side = {'proxy_data': images(jax.random.key(1), 200)}

  @jax.jit
  @jax.vmap
  def run(key, x, y):
    message = made.craft(key, sent, side, ())
    update = real.update(key, message, types.Batch(x, y))[0]
    obs = types.Observation(message, update, side)
    return made.read({}, obs, {})

  return run


def exact(x, found):
  """Returns how many of [N, B] images came back at 40 dB, [N]."""
  counts = []
  for truth, x_hat, valid in zip(x, found.batch.x, found.valid):
    slots = assignment.assign(truth, x_hat, valid)
    psnr = np.asarray(METRICS['psnr'].score(truth, x_hat[slots]))
    counts.append(int(((slots >= 0) & (psnr >= 40)).sum()))
  return np.array(counts)


def batches(count, batch_size=B, labels=None):
  key = jax.random.key(7)
  x = images(key, count * batch_size).reshape(count, batch_size, *SHAPE)
  if labels is None:
    labels = jax.random.randint(key, (count, batch_size), 0, K)
  return jax.random.split(key, count), x, labels


@pytest.mark.parametrize('bins', [50, 1000])
@pytest.mark.parametrize('form', ['cumulative', 'sparse'])
def test_recovers_what_the_bins_allow(form, bins):
  count = 20
  keys, x, y = batches(count)
  found = exact(x, rounds(form=form, bins=bins)(keys, x, y))
  p = (1 - 1 / bins) ** (B - 1)
  # Images that share a bin are lost two at a time, hence twice the variance.
  error = np.sqrt(2 * B * p * (1 - p) / count)
  assert abs(found.mean() - B * p) < 4 * error + 0.05 * B * (1 - p)
  assert found.min() < B or bins > 50


def test_images_of_one_label_come_back_too():
  keys, x, y = batches(4, labels=jnp.ones((4, B), jnp.int32))
  assert exact(x, rounds()(keys, x, y)).sum() >= 4 * B - 4


@pytest.mark.parametrize(
  'kwargs',
  [
    dict(functional='random'),
    dict(functional='fourier', law='laplace'),
    dict(hide='order'),
    dict(form='sparse', hide='order'),
    dict(location=0.5, scale=0.08),
  ],
)
def test_measurements_and_disguises_find_as_much(kwargs):
  keys, x, y = batches(4)
  assert exact(x, rounds(**kwargs)(keys, x, y)).mean() > 0.85 * B


@pytest.mark.parametrize('client', [SGD, AVG])
def test_fresh_weights_find_images_of_contrast(client):
  keys, _, y = batches(4)
  x = contrasts(4)
  found = rounds(client=client, form='sparse', hide='weights')(keys, x, y)
  assert exact(x, found).mean() > 0.85 * B


def test_sparse_form_outlives_local_steps():
  keys, x, y = batches(4)
  client = functools.partial(AVG, epochs=2)
  found = rounds(client=client, form='sparse')(keys, x, y)
  assert exact(x, found).mean() > 0.85 * B


def test_one_shot_finds_the_image_it_aims_at_in_an_aggregate():
  # Brightness 0.5 + 0.08 times these quantiles' deviations.
  levels = np.linspace(-2, 2, 64)
  x = jnp.clip(images(jax.random.key(3), 64), 0, 1)
  x = x - x.mean((1, 2, 3), keepdims=True) + 0.5
  x = jnp.clip(x + 0.08 * levels[:, None, None, None], 0, 1)[None]
  wanted = 40
  aim = float(jax.scipy.stats.norm.cdf(levels[wanted]))
  run = rounds(
    clients=4, batch_size=64, form='one_shot', bins=2000, target=aim,
    location=0.5, scale=0.08,
  )  # fmt: skip
  key = jax.random.split(jax.random.key(0), 1)
  found = run(key, x, jnp.zeros((1, 64), jnp.int32))
  assert found.valid.shape == (1, 1) and found.valid.all()
  assert METRICS['psnr'].score(x[0, wanted], found.batch.x[0, 0]) >= 40


@pytest.mark.parametrize(
  ('make', 'train_mode'),
  [
    (functools.partial(resnet.resnet, depth=18, blocks=(1,), width=0.1), True),
    (functools.partial(convnet.convnet, width=4), False),
    (functools.partial(convnext.convnext, width=8, depths=(1, 1)), True),
  ],
)
def test_works_in_front_of_other_networks(make, train_mode):
  net = make((12, 12, 3), K)
  x = jax.image.resize(images(jax.random.key(2), B), (B, 12, 12, 3), 'nearest')
  client = functools.partial(SGD, train_mode=train_mode)
  run = rounds(net=net, client=client, location=0.5, scale=0.08)
  key = jax.random.split(jax.random.key(0), 1)
  found = run(key, x[None], jnp.zeros((1, B), jnp.int32))
  assert exact(x[None], found)[0] >= B - 2


def test_a_network_that_normalises_each_image_sees_the_level():
  make = functools.partial(convnext.convnext, width=8, depths=(1, 1))
  net = make((12, 12, 3), K)
  x = jax.image.resize(images(jax.random.key(2), B), (B, 12, 12, 3), 'nearest')
  y = jnp.zeros(B, jnp.int32)
  options = dict(location=0.5, scale=0.08)
  key = jax.random.key(0)
  crafting = attack(net, **options)
  altered = crafting.on_net(net)
  sent = types.ServerMessage(altered.init(key))
  message = jax.jit(crafting.craft)(key, sent, {}, ())
  update = jax.jit(SGD(altered).update)
  delta = update(key, message, types.Batch(x, y))[0].delta
  # Without the stripes this is 1e-8, float32's rounding of zero.
  front = delta['front']
  assert np.linalg.norm(front['first']['bias']) > 1e-4 * np.linalg.norm(
    front['second']['bias']
  )
  found = rounds(net=net, **options)(key[None], x[None], y[None])
  assert exact(x[None], found)[0] == B


def test_stripes_stand_before_per_image_normalisation_only():
  striped = convnext.convnext((12, 12, 3), K, width=8, depths=(1,))
  grouped = resnet.resnet((12, 12, 3), K, depth=20, norm='group')
  for net in (striped, grouped):
    np.testing.assert_array_equal(np.abs(backdrop.backdrop(net)), 1)
  for net in (NET, resnet.resnet((12, 12, 3), K, depth=20)):
    assert not backdrop.backdrop(net).any()


def test_an_empty_update_claims_nothing():
  made = attack()
  given = made.on_net(NET)
  message = types.ServerMessage(given.init(jax.random.key(0)))
  zero = jax.tree.map(jnp.zeros_like, message.variables.params)
  obs = types.Observation(message, types.Update(zero, {}, jnp.int32(B)), {})
  found = made.read({}, obs, {})
  assert not found.valid.any() and found.score == 1
  assert np.isfinite(found.batch.x).all()


@pytest.mark.parametrize('bins', [16, 50])
def test_parameters_and_what_the_network_reads(bins):
  given = attack(bins=bins).on_net(NET)
  d = np.prod(SHAPE)
  more = models.count(given.init(jax.random.key(0)))
  fewer = models.count(NET.init(jax.random.key(0)))
  assert more - fewer == 2 * d * bins + bins + d
  for form in ('cumulative', 'sparse'):
    made = attack(bins=bins, form=form, location=0.5, scale=0.08)
    sent = made.craft(
      jax.random.key(0),
      types.ServerMessage(given.init(jax.random.key(0))),
      {},
      (),
    )
    assert trees.all_finite(sent)
    at = 0.5 + 0.08 * np.array([-2.0, -0.7, 0.7, 2.0])
    flat = jnp.broadcast_to(at[:, None, None, None], (4, *SHAPE))
    tap = 'front.second'
    read = made.on_net(NET).apply(sent.variables, flat, taps=(tap,)).taps[tap]
    # Grey, brighter where the image is, and of a normalised image's size.
    assert read.std(axis=1).max() < 1e-4
    assert (np.diff(read[:, 0]) > 0.1).all() and np.abs(read).max() < 6


def test_hidden_rows():
  def kernels(**kwargs):
    made = attack(bins=64, form=kwargs.pop('form', 'cumulative'), **kwargs)
    message = types.ServerMessage(made.on_net(NET).init(jax.random.key(0)))
    side = {'proxy_data': images(jax.random.key(1), 20)}
    sent = made.craft(jax.random.key(0), message, side, ())
    leaves = trees.named_leaves(sent.variables.params)
    kernel = leaves['front.first.kernel']
    rows = kernel / jnp.linalg.norm(kernel, axis=0)
    cosines = rows.T @ rows - 2 * jnp.eye(64)
    return leaves, cosines.max(axis=0)

  leaves, cosines = kernels()
  assert (np.diff(leaves['front.first.bias']) < 0).all()
  leaves, cosines = kernels(hide='order')
  falling = np.diff(leaves['front.first.bias']) < 0
  assert 0.3 < falling.mean() < 0.7 and cosines.min() > 0.999
  norms = jnp.linalg.norm(leaves['front.first.kernel'], axis=0)
  assert norms.std() > 0.5 * norms.mean()
  leaves, cosines = kernels(form='sparse', hide='weights')
  assert cosines.max() < 0.5
  bound = 1 / np.sqrt(np.prod(SHAPE))
  kernel = leaves['front.first.kernel']
  assert np.abs(kernel).max() <= bound
  assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_grants():
  common = {'model', 'batch_size', 'alter_architecture'}
  crafted = common | {'alter_parameters'}
  assert attack().needs == crafted | {'proxy_data'}
  assert attack(location=0.5, scale=0.1).needs == crafted
  hidden = attack(form='sparse', hide='weights')
  assert hidden.needs == common and hidden.craft is base.honest


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    (dict(bins=15), 'bins=15'),
    (dict(bins=1, form='one_shot'), 'bins=1'),
    (dict(functional='median'), 'fourier, mean, random'),
    (dict(law='cauchy'), 'gaussian, laplace'),
    (dict(form='dense'), 'cumulative, one_shot, sparse'),
    (dict(hide='weights'), "hide='weights'.* form than 'cumulative'"),
    (dict(hide='all', form='sparse'), "hide='all'"),
    (dict(location=0.5), 'scale=None'),
    (dict(location=0.5, scale=0.0), 'scale=0.0'),
    (dict(ceiling=0.0), 'ceiling=0.0'),
    (dict(target=1.0, form='one_shot'), 'target=1.0'),
    (dict(client=AVG), "form='cumulative'; got local_steps=4"),
  ],
)
def test_refusals(kwargs, message):
  with pytest.raises(ValueError, match=f'^Expected.*{message}') as error:
    attack(**kwargs)
  assert '\n' not in str(error.value)


def test_refuses_a_network_without_a_front():
  spec = models.make_spec('plain', SHAPE, K, 'none')
  net = from_callable.from_callable(lambda key: {}, lambda params, x: x, spec)
  with pytest.raises(ValueError, match=r'got plain.*it by from_nnx'):
    attack(net=net)
  with pytest.raises(ValueError, match=r'trained as a whole.*trainable'):
    attack(net=subset.subset(NET, freeze=['layers.1.*']))
