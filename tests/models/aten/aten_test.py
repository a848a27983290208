"""Every row of OPERATORS against torch: values, first and second derivatives.

The cases of a group are one module, each on two images of its own, so that
torch exports and XLA compiles them together. Their images are stored channels
last.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax.models import aten
from giajax.models import layers
from giajax.models.aten.parts import interpreter
from giajax.models.aten.parts import programs

torch = pytest.importorskip('torch', reason='needs the extra torch')
cases = pytest.importorskip('models.aten.cases')


class Cases(torch.nn.Module):
  """Functions of two images each, whose outputs are joined."""

  def __init__(self, functions):
    super().__init__()
    self.functions = functions

  def forward(self, x):
    parts = self.outputs(x)
    return torch.cat([part.reshape(-1).to(torch.float32) for part in parts])

  def outputs(self, x):
    two = [x[2 * i : 2 * i + 2] for i in range(len(self.functions))]
    return [fn(part) for fn, part in zip(self.functions, two)]


def evaluated(program, images, key=None):
  context = layers.Context(True, key=key)
  return interpreter.evaluate(program, {}, {}, images, context)[0]


@functools.cache
def results(group):
  """Returns targets, and by case value and derivatives of torch and JAX."""
  own = cases.GROUPS[group]
  module = Cases([*own.values()])
  size = (2 * len(own), *cases.SHAPE[1:])
  numbers = np.random.default_rng(0).normal(size=size)
  x = torch.tensor(numbers, dtype=torch.float32)
  program, unknown = programs.of_module(module, x, aten.OPERATORS)
  assert not unknown
  sizes = [part.numel() for part in module.outputs(x)]
  weights = np.cos(np.arange(sum(sizes))).astype(np.float32)
  expected = [
    of_torch(name, fn, x[2 * i : 2 * i + 2], np.split(weights, ends(sizes))[i])
    for i, (name, fn) in enumerate(own.items())
  ]

  def slope(images):
    def total(images):
      y = evaluated(program, images)
      return (y * weights).sum(), y

    return jax.grad(total, has_aux=True)(images)

  def squares(images):
    first, y = slope(images)
    return jnp.square(first).sum(), (y, first)

  run = jax.jit(jax.grad(squares, has_aux=True))
  images = numbers.astype(np.float32).transpose(0, 2, 3, 1)
  options = {'xla_backend_optimization_level': '0'}
  second, (y, first) = run.lower(images).compile(options)(images)
  found = [y, *(part.transpose(0, 3, 1, 2) for part in (first, second))]
  cuts = ends(sizes), len(own), len(own)
  parts = [np.split(np.asarray(a), at) for a, at in zip(found, cuts)]
  rows = {
    name: list(zip((part[i] for part in parts), expected[i]))
    for i, name in enumerate(own)
  }
  return {step.target for step in program.steps}, rows


def ends(sizes):
  return np.cumsum(sizes)[:-1]


def of_torch(name, fn, x, weights):
  """Returns value, first and second derivative, None where torch has none."""
  x = x.clone().requires_grad_(True)
  with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    y = Cases([fn])(x)
  if not y.requires_grad:
    return [y.numpy(), np.zeros(x.shape), np.zeros(x.shape)]
  total = (y * torch.as_tensor(weights)).sum()
  (first,) = torch.autograd.grad(total, x, create_graph=True)
  second = None
  if name not in cases.ONCE:
    square = (first**2).sum()
    second = torch.zeros(x.shape)
    if square.requires_grad:
      (second,) = torch.autograd.grad(square, x, materialize_grads=True)
  return [v if v is None else v.detach().numpy() for v in (y, first, second)]


def test_every_row_has_a_case():
  tables = (*cases.GROUPS.values(), cases.RANDOM)
  names = [name for table in tables for name in table]
  assert sorted(names) == sorted(aten.OPERATORS)


@pytest.mark.parametrize(
  ('group', 'name'),
  [(g, name) for g, own in cases.GROUPS.items() for name in own],
)
def test_values_and_derivatives(group, name):
  targets, rows = results(group)
  assert name in targets
  for found, expected in rows[name]:
    if expected is None:
      continue
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5 * scale)


@pytest.mark.parametrize('name', cases.RANDOM)
def test_random_numbers_have_their_distribution_and_key(name):
  fn, mean, variance = cases.RANDOM[name]
  x = torch.zeros(2, 3, 40, 50)
  program, unknown = programs.of_module(Cases([fn]), x, aten.OPERATORS)
  assert not unknown and name in {step.target for step in program.steps}
  images = jnp.zeros((2, 40, 50, 3))
  one, again, other = (
    evaluated(program, images, jax.random.key(seed)) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, again)
  assert (one != other).any()
  assert abs(one.mean() - mean) < 0.03 and abs(one.var() - variance) < 0.05
  with pytest.raises(ValueError, match=r'^Expected a key'):
    evaluated(program, images)
