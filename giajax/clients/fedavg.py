"""FedAvg: some epochs of SGD, and what they changed.

McMahan et al., Communication-Efficient Learning of Deep Networks from
Decentralized Data, AISTATS 2017, arXiv 1602.05629. From the received weights
w_0 the client takes S = epochs * images / batch_size steps

  v_s = momentum v_(s-1) + grad L_s(w_s),   w_(s+1) = w_s - learning_rate v_s

over its batches, in a new order each epoch, and sends w_S - w_0 with the
BatchNorm buffers that its passes moved. The steps are one scan, so their number
does not lengthen the compilation.

With one epoch over one batch this is FedSGD's gradient times -learning_rate.
A server that does not know the protocol reads any update in this way: it
attacks through `fedavg(learning_rate=1)` and matches by a distance that ignores
scale.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import types
from giajax.clients import augmentation
from giajax.clients import base
from giajax.models import base as models
from giajax.models import gradient_moments
from giajax.ops import moments
from giajax.tasks import base as tasks

# The images that a client looks at in all epochs: their order is one array.
_MOST_LOOKS = 10_000_000


def fedavg(
  net: models.Net,
  task: tasks.Task,
  *,
  num_images: int,
  epochs: int = 1,
  batch_size: int | None = None,
  learning_rate: float = 0.01,
  momentum: float = 0.0,
  shuffle: bool = True,
  train_mode: bool = False,
  augment: bool = False,
) -> base.Client:
  """Some epochs of SGD over the client's images.

  Args:
    net: the network.
    task: the task, for its loss.
    num_images: B, the number of images of the client in all.
    epochs: the number of passes over the images.
    batch_size: the number of images per step, a divisor of `num_images`; all of
      them if None.
    learning_rate: the learning rate of SGD.
    momentum: the momentum of SGD, as torch defines it, in [0, 1).
    shuffle: whether each epoch has an order of its own, drawn from the key.
    train_mode: whether BatchNorm uses each batch's statistics and dropout drops
      units.
    augment: whether each step flips and crops its images at random, see
      `augmentation`.

  Returns:
    A client whose update holds the buffers after the last step. Its Output is
    the last step's, except for the activations in `taps`: those come from a
    pass of all images through the received weights.

  Raises:
    ValueError: a count, rate or momentum outside its range. The client's
      `update` and `moments` raise it for another number of images, and for
      images or labels that the network or the task refuses.
  """
  size = num_images if batch_size is None else batch_size
  _check(num_images, epochs, size, learning_rate, momentum)
  per_epoch = num_images // size
  steps = epochs * per_epoch
  augmented = augmentation.augmenter(augment)
  check = base.checker(task)

  def require_count(batch, count):
    if len(batch.x) != count:
      raise ValueError(
        f'Expected {count} images, as num_images={num_images}; got '
        f'{len(batch.x)}; build the client for the number that it has'
      )

  def batches(key):
    """Returns [S, size], the images of each step."""
    order = jnp.tile(jnp.arange(num_images), (epochs, 1))
    if shuffle and per_epoch > 1:
      each = jax.random.split(keys.named(key, 'order'), epochs)
      order = jax.vmap(jax.random.permutation)(each, order)
    return order.reshape(steps, size)

  def update(
    key: types.Array,
    message: types.ServerMessage,
    batch: types.Batch,
    taps: Sequence[str] = (),
  ) -> tuple[types.Update, types.Output]:
    require_count(batch, num_images)
    return run(key, message, batch, batches(key), taps)

  def unrolled(key, message, batch, taps=()):
    require_count(batch, epochs * num_images)
    order = jnp.arange(epochs * num_images).reshape(steps, size)
    return run(key, message, batch, order, taps)

  def run(key, message, batch, order, taps):
    """Takes the steps on the images that `order` [S, size] names."""
    check(batch)
    start = message.variables

    def step(carry, inputs):
      params, stats, velocity = carry
      s, rows = inputs

      def loss(params):
        output = net.apply(
          start._replace(params=params, stats=stats),
          augmented(keys.at(key, s), batch.x[rows]),
          train=train_mode,
          key=keys.at(key, s),
        )
        own = jax.tree.map(lambda leaf: leaf[rows], batch.y)
        return base.loss(task, output, own), output

      gradient, output = jax.grad(loss, has_aux=True)(params)
      velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
      params = jax.tree.map(
        lambda p, v: p - learning_rate * v, params, velocity
      )
      results = (output.out, output.penalty)
      return (params, output.stats, velocity), results

    still = jax.tree.map(jnp.zeros_like, start.params)
    # An attack differentiates the steps: it keeps the weights between them, and
    # computes what is inside of one again, so that memory hardly grows with S.
    (params, stats, _), (outs, penalties) = jax.lax.scan(
      jax.checkpoint(step, prevent_cse=False),
      (start.params, start.stats, still),
      (jnp.arange(steps), order),
    )
    delta = jax.tree.map(jnp.subtract, params, start.params)
    tapped = {}
    if taps:
      first = net.apply(start, batch.x, train=train_mode, taps=taps, key=key)
      tapped = first.taps
    result = types.Update(delta, stats, jnp.asarray(num_images, jnp.int32))
    last, penalty = jax.tree.map(lambda leaf: leaf[-1], (outs, penalties))
    return result, types.Output(last, stats, tapped, penalty)

  def update_moments(
    key: types.Array,
    message: types.ServerMessage,
    batch: types.Batch,
    target: types.Tree,
    taps: Sequence[str] = (),
  ) -> tuple[moments.Moments, types.Output]:
    require_count(batch, num_images)
    own, output = gradient_moments.gradient_moments(
      net,
      lambda output: base.loss(task, output, batch.y),
      message.variables,
      augmented(keys.at(key, 0), batch.x),
      target,
      train=train_mode,
      taps=taps,
      key=keys.at(key, 0),
    )
    dot = {n: -learning_rate * v for n, v in own.dot.items()}
    squared = {n: learning_rate**2 * v for n, v in own.squared.items()}
    return own._replace(dot=dot, squared=squared), output

  def as_gradient(delta):
    return jax.tree.map(lambda d: d / (-learning_rate * steps), delta)

  single = steps == 1 and net.probe is not None
  return base.Client(
    update,
    update_moments if single else None,
    as_gradient,
    train_mode,
    net,
    steps,
    epochs=epochs,
    unrolled=unrolled,
    augment=augment,
    additive=task.additive,
    check=check,
  )


def _check(num_images, epochs, size, learning_rate, momentum):
  if min(num_images, epochs, size) < 1 or num_images % size:
    raise ValueError(
      'Expected at least one epoch, and a batch_size of at least 1 that '
      f'divides the {num_images} images of the client; got epochs={epochs}, '
      f'batch_size={size}; change one of them'
    )
  if epochs * num_images > _MOST_LOOKS:
    raise ValueError(
      f'Expected at most {_MOST_LOOKS} images in all epochs of a client; got '
      f'epochs={epochs} of {num_images}; lower epochs'
    )
  if not 0 < learning_rate < math.inf or not 0 <= momentum < 1:
    raise ValueError(
      'Expected a finite learning_rate above 0 and a momentum in [0, 1); got '
      f'learning_rate={learning_rate}, momentum={momentum}; correct them'
    )
