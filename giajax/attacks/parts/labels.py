"""Label rules: what the last layer's gradient says about the labels.

For a linear classifier z = W h + b under cross-entropy, the gradient of the
mean loss over B images is

  dL/db_k = mean_i (p_ik - [y_i = k])        dL/dW_k = mean_i (...) h_i

with p the softmax. The change over several local steps is read as one gradient
(`Client.as_gradient`). A rule requires only the parts of the update that it
reads: an update that covers only the classifier's bias is enough for `idlg` and
`bias_corrected`. A row is a factory `(world) -> Rule`, and refuses other
tasks than its own: classification, or detection for `present_classes`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.models import inspect
from giajax.models.parts import score_biases

SLOTS = 8  # the most classes of objects that a rule names


class Rule(NamedTuple):
  """How labels are inferred.

  Attributes:
    infer: `(key, obs) -> labels [B] int32`, in ascending order; for a detector
      the fact 'labels' of the task.
    needs: the grants (`threat.GRANTS`) that it uses.
  """

  infer: Callable[[types.Array, types.Observation], Any]
  needs: frozenset[str] = frozenset()


def idlg(world: worlds.World) -> Rule:
  """The class whose gradient row points against all others; one image only.

  Zhao, Mopuri and Bilen, iDLG: Improved Deep Leakage from Gradients, 2020,
  arXiv 2001.02610, eq. 6. The row of the label is the one whose product with
  every other row is not positive; with a bias this is its negative entry.

  Raises:
    ValueError: another task, a batch of more than one image, or an update that
      covers no part of the classifier.
  """
  require.exclusive_classes(world, 'the idlg rule')
  require.batch_of_one(
    world, 'the idlg rule', advice='use column_minimum or bias_corrected'
  )
  path = inspect.classifier(world.net)
  by_bias = inspect.has_bias(world.net, path)
  if not by_bias:
    require.classifier_kernel(
      world.net, 'idlg', advice='train the classifier, or its bias'
    )

  def infer(key, obs):
    del key
    if by_bias:
      label = jnp.argmin(_gradient(world, obs, path, 'bias'))
    else:
      kernel = _gradient(world, obs, path, 'kernel')
      products = kernel.T @ kernel
      label = jnp.argmin(products.sum(0) - products.diagonal())
    return label[None].astype(jnp.int32)

  return Rule(infer)


def of_one_image(world: worlds.World) -> Rule:
  """The rule `idlg`, for closed forms of one image that need no label.

  Targets that are no exclusive classes, and labels of a classifier that the
  client does not train, are not inferred: they are -1, none.

  Raises:
    ValueError: a batch of more than one image, or a network without a
      classifier.
  """
  path = inspect.classifier(world.net) if world.task.exclusive else ''
  leaves = {f'{path}.kernel', f'{path}.bias'}
  if leaves & {*inspect.leaf_names(world.net)}:
    return idlg(world)
  return Rule(lambda key, obs: jnp.full(world.batch_size, -1, jnp.int32))


def column_minimum(world: worlds.World) -> Rule:
  """The B classes of lowest row minimum of the weight gradient.

  Yin et al., See through Gradients, CVPR 2021, arXiv 2104.07586, eq. 6. It
  assumes distinct labels.

  Raises:
    ValueError: another task, more images than classes, or an update that does
      not cover the classifier's kernel.
  """
  require.exclusive_classes(world, 'the column_minimum rule')
  b, k = world.batch_size, world.net.spec.num_classes
  require.classifier_kernel(
    world.net, 'column_minimum', advice='use bias_corrected'
  )
  if b > k:
    raise ValueError(
      f'Expected batch_size <= {k} classes for column_minimum, which assumes '
      f'distinct labels; got batch_size={b}; use bias_corrected'
    )
  path = inspect.classifier(world.net)

  def infer(key, obs):
    del key
    kernel = _gradient(world, obs, path, 'kernel')
    order = jnp.argsort(kernel.min(axis=0))
    return jnp.sort(order[:b]).astype(jnp.int32)

  return Rule(infer)


def bias_corrected(world: worlds.World) -> Rule:
  """Label counts from the bias gradient; labels may repeat, B may exceed K.

  n_k = B (p_k - dL/db_k), with p_k the mean softmax, which the attacker
  estimates by the network's output on noise images. The counts are rounded so
  that they sum to B. In the manner of Wainakh et al., User-Level Label Leakage
  from Gradients in Federated Learning, PoPETs 2022, arXiv 2105.09369, with
  their empirical offset replaced by this estimate.

  Raises:
    ValueError: another task, or an update that does not cover the classifier's
      bias.
  """
  require.exclusive_classes(world, 'the bias_corrected rule')
  b, spec = world.batch_size, world.net.spec
  require.classifier_bias(
    world.net, 'bias_corrected', advice='use column_minimum'
  )
  path = inspect.classifier(world.net)

  def infer(key, obs):
    bias = _gradient(world, obs, path, 'bias')
    mean, std = jnp.asarray(spec.mean), jnp.asarray(spec.std)
    noise = keys.normal(key, (32, *spec.image_shape)) * std + mean
    out = world.net.apply(
      obs.message.variables,
      jnp.clip(noise, 0, 1),
      train=world.client.train_mode,
      key=keys.named(key, 'pass'),
    ).out
    p = jax.nn.softmax(out).mean(axis=0)
    return _largest_remainders(b * (p - bias), b)

  return Rule(infer)


def ilrg(world: worlds.World) -> Rule:
  """Label counts from a linear system; labels may repeat, B may exceed K.

  Ma et al., Instance-wise Batch Label Restoration via Gradients in Federated
  Learning, ICLR 2023. The ratio dL/dW_k / dL/db_k stands for the embedding h_k
  of the images of class k, from which the classifier computes their softmax
  p_k. The counts n then solve, by least squares,

    sum_k n_k p_kj - n_j = B dL/db_j for each class j,    sum_k n_k = B

  Negative counts become 0, and the others are rounded so that they sum to B. A
  class with about as many images as the softmax predicts has hardly any
  gradient, and therefore an inaccurate embedding: with many images per class,
  `bias_corrected` errs less.

  Raises:
    ValueError: another task, or an update that does not cover the classifier's
      kernel and bias.
  """
  require.exclusive_classes(world, 'the ilrg rule')
  b, k = world.batch_size, world.net.spec.num_classes
  require.classifier_kernel(world.net, 'ilrg', advice='use bias_corrected')
  require.classifier_bias(world.net, 'ilrg', advice='use column_minimum')
  path = inspect.classifier(world.net)

  def infer(key, obs):
    del key
    held = trees.named_leaves(obs.message.variables.params)
    kernel = _gradient(world, obs, path, 'kernel')
    bias = _gradient(world, obs, path, 'bias')
    # A class without any gradient has no embedding.
    embeddings = kernel.T / jnp.where(bias == 0, 1.0, bias)[:, None]
    out = embeddings @ held[f'{path}.kernel'] + held[f'{path}.bias']
    p = jax.nn.softmax(out)
    system = jnp.concatenate([jnp.ones((1, k)), p.T - jnp.eye(k)])
    totals = jnp.concatenate([jnp.ones(1), bias]) * b
    numbers = jnp.linalg.lstsq(system, totals)[0]
    return _largest_remainders(jnp.maximum(numbers, 0.0), b)

  return Rule(infer)


def _largest_remainders(counts: types.Array, total: int) -> types.Array:
  """Returns [total] ascending labels, by the largest remainders."""

  def take(remainders, _):
    k = jnp.argmax(remainders)
    return remainders.at[k].add(-1.0), k

  _, labels = jax.lax.scan(take, counts, None, length=total)
  return jnp.sort(labels).astype(jnp.int32)


def counts(world: worlds.World) -> Rule:
  """The labels whose counts were granted; only their order is unknown.

  Raises:
    ValueError: another task.
  """
  require.exclusive_classes(world, 'the counts rule')
  b, k = world.batch_size, world.net.spec.num_classes

  def infer(key, obs):
    del key
    repeats = obs.side['label_counts']
    return jnp.repeat(
      jnp.arange(k, dtype=jnp.int32), repeats, total_repeat_length=b
    )

  return Rule(infer, frozenset({'label_counts'}))


def present_classes(world: worlds.World) -> Rule:
  """The classes of a detector's objects in one image, by the sign of a bias.

  Under binary cross-entropy of all points a and classes k, with targets that
  are 0 for every class without an object, the gradient of a class's bias is

    dL/db_k ~ sum over a of (sigmoid_ak - t_ak)

  and above 0 for every absent class: one below 0 belongs to a class that is
  there. So it is for the cross-entropy of DETR's queries. How many objects a
  class has does not show: one each is assumed, for `SLOTS` classes at most, and
  a class whose objects are found already may be missed.

  Raises:
    ValueError: another task, several images, or a network none of whose trained
      biases is added to its scores.
  """
  if 'boxes' not in world.task.facts:
    raise ValueError(
      'Expected task=detection for the present_classes rule; got another task; '
      'choose another'
    )
  require.batch_of_one(
    world, 'the present_classes rule', advice='its classes are those of a batch'
  )
  names = score_biases.names(world.net)
  k = world.net.spec.num_classes
  count = min(k, SLOTS)

  def infer(key, obs):
    del key
    leaves = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    slope = jnp.sum(jnp.stack([leaves[name][:k] for name in names]), axis=0)
    order = jnp.argsort(slope)[:count]
    valid = slope[order] < 0
    return {'classes': order[None].astype(jnp.int32), 'valid': valid[None]}

  return Rule(infer)


def _gradient(
  world: worlds.World, obs: types.Observation, path: str, leaf: str
) -> types.Array:
  """Returns the gradient of the classifier's kernel [in, K] or bias [K]."""
  leaves = trees.named_leaves(world.client.as_gradient(obs.update.delta))
  return leaves[f'{path}.{leaf}']


RULES = {
  'present_classes': present_classes,
  'bias_corrected': bias_corrected,
  'column_minimum': column_minimum,
  'counts': counts,
  'idlg': idlg,
  'ilrg': ilrg,
}
