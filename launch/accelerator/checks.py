"""Checks of the arithmetic of a device, which need no run of the engine."""

from collections.abc import Iterator
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import trees
from giajax import types
from giajax.clients import base as clients
from giajax.engine import experiment
from giajax.engine import mesh
from giajax.engine import program as programs
from giajax.models import gradient_moments
from giajax.models import inspect
from giajax.models import precision as precisions
from giajax.ops import convolution
from giajax.ops import geometries

from .. import workload
from . import reference
from . import rows

# The largest relative errors |got - want| / |want| of float32 products, and of
# sums of many of them.
_PRODUCTS = 2e-5
_SUMS = 1e-4
_RESTARTS = 2  # vmapped together, as attacks do
_STEPS = 5


def lowering(network: str, name: str, precision: str) -> dict[str, Any]:
  """Compares a lowering with float64 for all convolutions of a network.

  Args:
    network: a workload such as 'resnet18:1:224'.
    name: a name in `LOWERINGS`, or 'auto'.
    precision: a name in `PRECISIONS` whose products are used.

  Returns:
    The figures of a row: the number of shapes, and the largest relative error
    of the value, of the first derivative and of the second one.
  """
  shapes = list(_shapes(network, name))
  products = precisions.PRECISIONS[precision].products
  errors = np.zeros(3)
  for shape in shapes:
    run = jax.jit(functools.partial(_derivatives, shape, name))
    with jax.default_matmul_precision(products):
      outputs = jax.device_get(run(*_arrays(shape)))
    for i, wanted in enumerate(_wanted(shape)):
      own = [_error(a[i], b) for a, b in zip(outputs, wanted)]
      errors = np.maximum(errors, own)
  verdict = rows.OK if errors.max() < _PRODUCTS else rows.DIFFERS
  if precision != 'full':
    verdict = rows.MEASURED
  return {
    'verdict': verdict if shapes else rows.NONE,
    'shapes': len(shapes),
    **dict(zip(('value', 'first', 'second'), errors.tolist())),
  }


def moments(network: str) -> dict[str, Any]:
  """Compares a gradient's moments with those of the explicit gradient.

  Args:
    network: a workload such as 'resnet18:1:224'.

  Returns:
    The figures of a row: the larger relative error of <g, t> and |g|^2.
  """
  setup = _setup(network)
  net, task = setup.net, setup.world.task
  batch, target = _batch(setup), _noise(setup.variables.params)

  def loss(output):
    return clients.loss(task, output, batch.y)

  @jax.jit
  def both(variables, x, target):
    found, _ = gradient_moments.gradient_moments(
      net, loss, variables, x, target
    )

    def of_params(params):
      return loss(net.apply(variables._replace(params=params), x))

    return found, jax.grad(of_params)(variables.params)

  with jax.default_matmul_precision('highest'):
    found, gradient = jax.device_get(both(setup.variables, batch.x, target))
  g, t = (
    np.concatenate([np.ravel(leaf).astype(float) for leaf in leaves.values()])
    for leaves in map(trees.named_leaves, (gradient, jax.device_get(target)))
  )
  dot = sum(map(float, found.dot.values()))
  squared = sum(map(float, found.squared.values()))
  # <g, t> may cancel: its scale is that of its factors.
  errors = (
    abs(dot - g @ t) / math.sqrt((g @ g) * (t @ t)),
    abs(squared / (g @ g) - 1),
  )
  return {
    'verdict': rows.OK if max(errors) < _SUMS else rows.DIFFERS,
    'error': max(errors),
  }


def layouts(network: str) -> dict[str, Any]:
  """Compares restarts spread over all devices with restarts on one of them.

  Args:
    network: a workload such as 'convnet:1'.

  Returns:
    The figures of a row: the number of devices, and the mean difference
    between the images after a few steps, as a part of the mean distance of
    restarts from each other. On a single device, restarts one after the other
    are compared with restarts that run together.
  """
  setup = _setup(network)
  devices = jax.devices()
  restarts = 2 * len(devices)
  wide = mesh.layout(1, restarts, 1)
  single = mesh.layout(1, restarts, restarts, devices[:1])
  got, want = (_images(setup, where) for where in (wide, single))
  # Signed steps turn a rounding into a whole step where a slope is near 0.
  difference = float(np.mean(np.abs(got - want)))
  spread = float(np.mean(np.abs(want - want.mean(axis=1, keepdims=True))))
  return {
    'verdict': rows.OK if difference < 1e-2 * spread else rows.DIFFERS,
    'devices': len(devices),
    'error': difference / spread,
  }


def _images(setup: experiment.Setup, where: mesh.Layout) -> np.ndarray:
  """Returns the images of each restart after a few steps, [1, R, ...]."""
  inputs = workload.inputs(setup, _batch(setup), where)
  program = programs.program(setup.attack, where)
  carry = program.init(*inputs)
  bounds = mesh.put((np.int32(0), np.int32(_STEPS)), where, mesh.P())
  carry = program.chunk(*inputs, carry, *bounds)
  return np.asarray(program.read(*inputs[:3], carry).batch.x)


def _derivatives(shape, name, x, kernel):
  """Returns what `reference.Derivatives` holds, by a lowering."""

  def output(x, kernel):
    return convolution.convolve(x, kernel, shape.geometry, name)

  def first(x, kernel):
    return jax.grad(lambda k: jnp.sum(output(x, k) ** 2) / 2)(kernel)

  def second(x, kernel):
    return jax.grad(lambda x: jnp.sum(first(x, kernel) ** 2) / 2)(x)

  def run(x):
    return output(x, kernel), first(x, kernel), second(x, kernel)

  return jax.vmap(run)(x)


def _shapes(network: str, name: str) -> Iterator[geometries.Shapes]:
  """Yields the different convolutions of a network that a lowering can do."""
  setup, seen = _setup(network), set()
  params = trees.named_leaves(inspect.abstract_variables(setup.net).params)
  for path, site in inspect.sites(setup.net).items():
    if site.kind != 'conv':
      continue
    x_shape = (setup.world.batch_size, *site.input.shape[1:])
    kernel = params[f'{path}.kernel'].shape
    shape = geometries.Shapes(x_shape, kernel, site.geometry)
    if shape not in seen and _possible(shape, name):
      yield shape
    seen.add(shape)


def _possible(shape: geometries.Shapes, name: str) -> bool:
  try:
    convolution.faces(*shape, name)
  except ValueError:  # this lowering cannot do this geometry
    return False
  return True


@functools.cache
def _setup(network: str) -> experiment.Setup:
  return workload.setup(workload.parse(network), workload.Options())


def _batch(setup: experiment.Setup) -> types.Batch:
  """Returns a batch of noise."""
  size, shape = setup.world.batch_size, setup.net.spec.image_shape
  x = np.random.default_rng(0).random((size, *shape), np.float32)
  y = jnp.arange(size) % setup.net.spec.num_classes
  return types.Batch(jnp.asarray(x), y)


def _noise(tree: types.Tree) -> types.Tree:
  draw = np.random.default_rng(1).standard_normal
  return jax.tree.map(lambda a: draw(a.shape, np.float32), tree)


def _arrays(shape: geometries.Shapes) -> tuple[np.ndarray, np.ndarray]:
  """Returns images of each restart and a kernel, with outputs of order 1."""
  draw = np.random.default_rng(0).standard_normal
  x = draw((_RESTARTS, *shape.x), np.float32)
  kernel = draw(shape.kernel, np.float32)
  return x, kernel / np.float32(math.sqrt(math.prod(shape.kernel[:3])))


@functools.cache
def _wanted(shape: geometries.Shapes) -> list[reference.Derivatives]:
  x, kernel = _arrays(shape)
  return [reference.derivatives(one, kernel, shape.geometry) for one in x]


def _error(got: np.ndarray, want: np.ndarray) -> float:
  """Returns |got - want| / |want|; not a number is infinitely wrong."""
  error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
  return error if math.isfinite(error) else math.inf
