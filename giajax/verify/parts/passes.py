"""Passes of a probe through a network, as a client can run them.

Each function here is a factory: it takes the agreed network and its loss, and
returns a function `(variables, probe) -> numbers` that can be jitted.
"""

from collections.abc import Callable, Mapping
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.models import base as models
from giajax.models import inspect
from giajax.tasks import base as tasks

# Norms of gradients, by dotted name of the parameter.
Norms = Mapping[str, types.Array]
# Mean and variance [2, C] of what a layer reads, by its path.
Statistics = Mapping[str, types.Array]


class Examples(NamedTuple):
  """What the individual images of a probe would give away.

  Attributes:
    norms: [B] by parameter, the norm of each image's own gradient.
    inputs: [B, inputs] of the network's `reader`; no columns without one.
    outputs: [B, units] of that layer, before its activation.
    cotangents: [B, units], derivatives of the sum of the images' losses with
      respect to these outputs.
  """

  norms: Norms
  inputs: types.Array
  outputs: types.Array
  cotangents: types.Array


def reader(net: models.Net) -> str | None:
  """Returns the path of the first linear layer that reads an image as a whole.

  The gradient of each of its rows is a weighted sum of its inputs, from which
  malicious weights isolate single images. None if the classifier is the only
  such layer.
  """
  tap = inspect.features(net)
  for path, site in inspect.sites(net).items():
    if site.kind == 'linear' and site.input.ndim == 2:
      return None if f'{path}.input' == tap else path
  return None


def examples(
  net: models.Net, task: tasks.Task
) -> Callable[[types.Variables, types.Batch], Examples]:
  """Returns the pass in inference mode that looks at every image by itself."""
  path = reader(net)

  def run(variables: types.Variables, probe: types.Batch) -> Examples:
    def loss(params, x, y):
      out = net.apply(variables._replace(params=params), x, train=False)
      return clients.loss(task, out, y)

    # One image after the other: of each gradient only the norms are kept.
    def one(pair):
      x, y = trees.single(pair)
      return _norms(jax.grad(loss)(variables.params, x, y))

    norms = jax.lax.map(one, (probe.x, probe.y))
    return Examples(norms, *_layer(net, task, path, variables, probe))

  return run


def training(
  net: models.Net, task: tasks.Task
) -> Callable[[types.Variables, types.Batch], Norms]:
  """Returns the pass in training mode: norms [] of the probe's gradient."""

  def run(variables: types.Variables, probe: types.Batch) -> Norms:
    def loss(params):
      # Any key will do, because the draws of dropout are not secret.
      key, own = jax.random.key(0), variables._replace(params=params)
      out = net.apply(own, probe.x, train=True, key=key)
      return clients.loss(task, out, probe.y)

    return _norms(jax.grad(loss)(variables.params))

  return run


def statistics(
  net: models.Net,
) -> Callable[[types.Variables, types.Batch], Statistics]:
  """Returns the pass in training mode that looks at what layers read."""
  stats = trees.named_leaves(inspect.abstract_variables(net).stats)
  paths = [n.removesuffix('.mean') for n in stats if n.endswith('.mean')]
  taps = [f'{path}.input' for path in paths]

  def moments(x):
    axes = tuple(range(x.ndim - 1))
    return jnp.stack([x.mean(axes), x.var(axes)])

  def run(variables: types.Variables, probe: types.Batch) -> Statistics:
    # Any key will do, because the draws of dropout are not secret.
    key = jax.random.key(0)
    out = net.apply(variables, probe.x, train=True, taps=taps, key=key)
    return {path: moments(out.taps[f'{path}.input']) for path in paths}

  return run


def remember(
  fn: Callable[[types.Variables, types.Batch], Examples],
) -> Callable[[types.Variables, types.Batch], Examples]:
  """Returns `fn` with its last result kept: several checks ask for the same."""
  last: tuple[list[types.Array], Examples] | None = None

  def call(variables: types.Variables, probe: types.Batch) -> Examples:
    nonlocal last
    leaves = jax.tree.leaves((variables, probe))
    if last is None or not _same(leaves, last[0]):
      last = leaves, fn(variables, probe)
    return last[1]

  return call


def _same(a: list[types.Array], b: list[types.Array]) -> bool:
  return len(a) == len(b) and all(map(operator.is_, a, b))


def _norms(gradient: types.Tree) -> Norms:
  leaves = trees.named_leaves(gradient)
  return {n: jnp.sqrt(trees.squared_norm(g)) for n, g in leaves.items()}


def _layer(net, task, path, variables, probe):
  """Returns inputs, outputs and cotangents of the layer at a path."""
  if path is None:
    return (jnp.zeros((len(probe.x), 0)),) * 3

  def run(offsets):
    return net.probe(variables, probe.x, offsets)

  shapes = jax.eval_shape(lambda: run(None)[2])
  zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in shapes.items()}

  def alone(out, y):
    return task.loss(trees.single(out), trees.single(y))

  def loss(offset):
    output, sites, outputs = run({**zeros, path: offset})
    values = jax.vmap(alone)(output.out, probe.y)
    total = values.sum() + len(probe.x) * output.penalty
    return total, (sites[path].input, outputs[path])

  cotangents, activations = jax.grad(loss, has_aux=True)(zeros[path])
  return (*activations, cotangents)
