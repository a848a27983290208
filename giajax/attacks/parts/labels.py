"""Label rules: what the last layer's gradient says about the labels.

For a linear classifier z = W h + b under cross-entropy, the gradient of the
mean loss over B images is

  dL/db_k = mean_i (p_ik - [y_i = k])        dL/dW_k = mean_i (...) h_i

with p the softmax. What several local steps changed is read as one gradient
(`Client.as_gradient`). A row is a factory `(world) -> Rule`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import keys
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.models import inspect


class Rule(NamedTuple):
  """How labels are found.

  Attributes:
    infer: `(key, obs) -> labels [B] int32`, in ascending order.
    needs: the grants (`threat.GRANTS`) that it uses.
  """

  infer: Callable[[types.Array, types.Observation], types.Array]
  needs: frozenset[str] = frozenset()


def idlg(world: worlds.World) -> Rule:
  """The class whose gradient row points against all others; batch 1.

  Zhao, Mopuri and Bilen, iDLG: Improved Deep Leakage from Gradients, 2020,
  arXiv 2001.02610, eq. 6. The row of the label is the one whose product with
  every other row is not positive; with a bias this is its negative entry.

  Raises:
    ValueError: a batch of more than one image.
  """
  if world.batch_size != 1:
    raise ValueError(
      'Expected batch_size 1 for the iDLG rule; got '
      f'batch_size={world.batch_size}; use column_minimum or bias_corrected'
    )
  head = inspect.head(world.net)

  def infer(key, obs):
    del key
    kernel, bias = _classifier(world, obs, head)
    if bias is not None:
      return jnp.argmin(bias)[None].astype(jnp.int32)
    products = kernel.T @ kernel
    return jnp.argmin(products.sum(0) - products.diagonal())[None].astype(
      jnp.int32
    )

  return Rule(infer)


def column_minimum(world: worlds.World) -> Rule:
  """The B classes of lowest row minimum of the weight gradient.

  Yin et al., See through Gradients, CVPR 2021, arXiv 2104.07586, eq. 6. It
  assumes distinct labels.

  Raises:
    ValueError: more images than classes.
  """
  b, k = world.batch_size, world.net.spec.num_classes
  if b > k:
    raise ValueError(
      f'Expected batch_size <= {k} classes for column_minimum, which assumes '
      f'distinct labels; got batch_size={b}; use bias_corrected'
    )
  head = inspect.head(world.net)

  def infer(key, obs):
    del key
    kernel, _ = _classifier(world, obs, head)
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
    ValueError: a classifier without bias.
  """
  b, spec = world.batch_size, world.net.spec
  head = _head_with_bias(world, 'bias_corrected')

  def infer(key, obs):
    _, bias = _classifier(world, obs, head)
    mean, std = jnp.asarray(spec.mean), jnp.asarray(spec.std)
    noise = keys.normal(key, (32, *spec.image_shape)) * std + mean
    out = world.net.apply(
      obs.message.variables,
      jnp.clip(noise, 0, 1),
      train=world.client.train_mode,
      key=keys.named(key, 'pass'),
    ).out
    p = jax.nn.softmax(out).mean(axis=0)
    return _largest_remainders(b * (p - bias), b)  # pyrefly: ignore

  return Rule(infer)


def ilrg(world: worlds.World) -> Rule:
  """Label counts from a linear system; labels may repeat, B may exceed K.

  Ma et al., Instance-wise Batch Label Restoration via Gradients in Federated
  Learning, ICLR 2023. The ratio dL/dW_k / dL/db_k stands for the embedding h_k
  of the images of class k, of which the classifier makes their softmax p_k.
  The counts n then solve, by least squares,

    sum_k n_k p_kj - n_j = B dL/db_j for each class j,    sum_k n_k = B

  Those below 0 are none, and the others are rounded so that they sum to B. A
  class of as many images as the softmax gives it has hardly a gradient, and so
  an embedding far off: with many images a class, bias_corrected errs less.

  Raises:
    ValueError: a classifier without bias.
  """
  b, k = world.batch_size, world.net.spec.num_classes
  head = _head_with_bias(world, 'ilrg')

  def infer(key, obs):
    del key
    sent = trees.named_leaves(world.client.as_gradient(obs.update.delta))
    held = trees.named_leaves(obs.message.variables.params)
    kernel, bias = sent[f'{head}.kernel'], sent[f'{head}.bias']
    # Without any gradient a class has no embedding.
    embeddings = kernel.T / jnp.where(bias == 0, 1.0, bias)[:, None]
    out = embeddings @ held[f'{head}.kernel'] + held[f'{head}.bias']
    p = jax.nn.softmax(out)
    system = jnp.concatenate([jnp.ones((1, k)), p.T - jnp.eye(k)])
    known = jnp.concatenate([jnp.ones(1), bias]) * b
    found = jnp.linalg.lstsq(system, known)[0]
    return _largest_remainders(jnp.maximum(found, 0.0), b)

  return Rule(infer)


def _largest_remainders(counts: types.Array, total: int) -> types.Array:
  """Returns [total] ascending labels: repeatedly, the one most wanting."""

  def take(wanting, _):
    k = jnp.argmax(wanting)
    return wanting.at[k].add(-1.0), k

  _, labels = jax.lax.scan(take, counts, None, length=total)
  return jnp.sort(labels).astype(jnp.int32)


def counts(world: worlds.World) -> Rule:
  """The labels whose counts were granted; only their order is unknown."""
  b, k = world.batch_size, world.net.spec.num_classes

  def infer(key, obs):
    del key
    repeats = obs.side['label_counts']
    return jnp.repeat(
      jnp.arange(k, dtype=jnp.int32), repeats, total_repeat_length=b
    )

  return Rule(infer, frozenset({'label_counts'}))


def _head_with_bias(world: worlds.World, rule: str) -> str:
  head = inspect.head(world.net)
  if not inspect.has_bias(world.net, head):
    raise ValueError(
      f'Expected a classifier with bias for {rule}; got '
      f'{world.net.spec.name}; use column_minimum'
    )
  return head


def _classifier(
  world: worlds.World, obs: types.Observation, head: str
) -> tuple[types.Array, types.Array | None]:
  """Returns the gradient of the last layer: [in, K] and [K] or None."""
  leaves = trees.named_leaves(world.client.as_gradient(obs.update.delta))
  return leaves[f'{head}.kernel'], leaves.get(f'{head}.bias')


RULES = {
  'idlg': idlg,
  'column_minimum': column_minimum,
  'bias_corrected': bias_corrected,
  'counts': counts,
  'ilrg': ilrg,
}
