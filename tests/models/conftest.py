"""Evaluates networks at the sizes of the goldens, once for all their tests."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from golden import draws
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import models
from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import convert
from giajax.ops import moments


class Subject(NamedTuple):
  """A case's network with the weights that its golden was made with."""

  net: base.Net
  variables: types.Variables
  x: types.Array  # the candidate images
  target: types.Array  # the images behind the observed gradient
  y: types.Array  # labels of both
  golden: dict[str, np.ndarray]

  def loss_fn(self, output: types.Output) -> types.Array:
    """Returns the mean cross-entropy, or a detector's loss, [] float32."""
    if isinstance(output.out, dict):
      return _weighted(output.out)
    log_p = jax.nn.log_softmax(output.out)
    return -jnp.take_along_axis(log_p, self.y[:, None], 1).mean()


class Evaluation(NamedTuple):
  """What one mode of a subject computes at the candidate images."""

  observed: types.Tree  # the gradient at the target images
  loss: types.Array
  output: types.Output
  gradient: types.Tree
  matching: types.Array
  dx: types.Array  # of the matching loss


def _weighted(out: dict[str, types.Array]) -> types.Array:
  """Returns the mean over softplus of all logits, each with its own weight."""
  flat = [v.reshape(*v.shape[:2], -1) for _, v in sorted(out.items())]
  logits = jnp.concatenate(flat, axis=-1)
  weights = jnp.asarray(draws.weights(logits.shape), logits.dtype)
  return (weights * jax.nn.softplus(logits)).mean()


def _precision(name: str) -> Any:
  return jax.enable_x64(draws.CASES[name].double)


@functools.lru_cache(maxsize=8)  # the tests of a network run in a row
def _subject(name: str) -> Subject:
  case = draws.CASES[name]
  dtype = np.float64 if case.double else np.float32
  with np.load(draws.FOLDER / f'{name}.npz', allow_pickle=False) as archive:
    golden = {key: archive[key] for key in archive.files}
  seed = int(golden['seed'])
  net = models.MODELS[case.row](
    case.image_shape, case.num_classes, **case.options
  )
  zeros = jax.tree.map(
    lambda s: np.zeros(s.shape), jax.eval_shape(net.init, jax.random.key(0))
  )
  state = {
    name: draws.weight(name, value.shape, seed, case.gain)
    for name, value in convert.to_state_dict(zeros).items()
  }
  variables = convert.from_state_dict(state, net)
  with _precision(name):
    return Subject(
      net,
      jax.tree.map(lambda v: v.astype(dtype), variables),
      jnp.asarray(draws.images('candidate', case, seed), dtype),
      jnp.asarray(draws.images('target', case, seed), dtype),
      jnp.asarray(draws.labels(case)),
      golden,
    )


def _evaluate(name: str, train: bool) -> Evaluation:
  # Without BatchNorm, the two modes are one program.
  return _evaluate_mode(name, train and bool(_subject(name).variables.stats))


@functools.lru_cache(maxsize=8)  # the tests of a network run in a row
def _evaluate_mode(name: str, train: bool) -> Evaluation:
  subject = _subject(name)
  variables = subject.variables

  def loss(params, variables, x):
    variables = variables._replace(params=params)
    output = subject.net.apply(variables, x, train=train)
    return subject.loss_fn(output), output

  def matching(x, observed, variables):
    found, gradient = jax.value_and_grad(loss, has_aux=True)(
      variables.params, variables, x
    )
    norms = trees.squared_norm(gradient) * trees.squared_norm(observed)
    value = 1 - trees.dot(gradient, observed) / jnp.sqrt(norms)
    return value, (*found, gradient)

  program = jax.jit(jax.value_and_grad(matching, has_aux=True))
  # The first call is for the gradient only; any direction will do.
  with _precision(name):
    (_, (*_, observed)), _ = program(
      subject.target, variables.params, variables
    )
    (value, found), dx = program(subject.x, observed, variables)
  return Evaluation(observed, *found, value, dx)


def _check_moments(
  found: moments.Moments, gradient: types.Tree, observed: types.Tree
) -> None:
  g, t = trees.named_leaves(gradient), trees.named_leaves(observed)
  assert found.dot.keys() == found.squared.keys() == g.keys()
  scale = max(float(np.linalg.norm(v)) for v in [*g.values(), *t.values()])
  for leaf in g:
    a, b = np.asarray(g[leaf], np.float64), np.asarray(t[leaf], np.float64)
    tolerance = dict(rtol=1e-4, atol=1e-6 * scale**2)
    np.testing.assert_allclose(found.dot[leaf], (a * b).sum(), **tolerance)
    np.testing.assert_allclose(found.squared[leaf], (a * a).sum(), **tolerance)
    np.testing.assert_allclose(found.target[leaf], (b * b).sum(), **tolerance)


@pytest.fixture(scope='session')
def check_moments() -> Callable[..., None]:
  """Returns `(moments, gradient, observed)`, which compares leaf by leaf."""
  return _check_moments


@pytest.fixture(scope='session')
def precision() -> Callable[[str], Any]:
  """Returns `(case name) -> context` of the case's floating-point type."""
  return _precision


@pytest.fixture(scope='session')
def subject() -> Callable[[str], Subject]:
  """Returns `(case name) -> Subject`, cached."""
  return _subject


@pytest.fixture(scope='session')
def evaluate() -> Callable[[str, bool], Evaluation]:
  """Returns `(case name, train) -> Evaluation`, cached."""
  return _evaluate
