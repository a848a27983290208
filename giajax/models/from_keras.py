"""A Net of a Keras 3 model on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from giajax import keys
from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import from_stateful


def from_keras(model: Any, spec: base.Spec) -> base.Net:
  """Returns the Net of a Keras model, through `stateless_call`.

  `net.init` returns the weights that the model had when this function was
  called; later changes of them change nothing. Dropout draws from the key of
  each pass. Parameters have the names of Keras's paths, without the model's.

  Args:
    model: a built `keras.Model` on the JAX backend (KERAS_BACKEND=jax) that
      maps normalised images [B, H, W, C] to logits [B, K]; leave a softmax at
      the end out.
    spec: the static facts about the network; its `mean` and `std` normalise the
      images.

  Raises:
    ValueError: another backend or a model that is not built, or see
      `from_stateful`.
  """
  _check(model)
  trained = [_path(v.path) for v in model.trainable_variables]
  kept = [_path(v.path) for v in model.non_trainable_variables]
  first = [np.asarray(v.value) for v in model.trainable_variables]
  second = [np.asarray(v.value) for v in model.non_trainable_variables]
  # Random streams are states of integers.
  floating = [np.issubdtype(value.dtype, np.floating) for value in second]

  def init(key: types.Array) -> tuple[types.Tree, types.Tree]:
    del key
    params = dict(zip(trained, map(jnp.array, first)))
    return trees.nested(params), trees.nested(_moving(map(jnp.array, second)))

  def apply(params, state, x, *, train, key):
    given, moving = trees.named_leaves(params), trees.named_leaves(state)
    before = [
      moving[name] if floats else _stream(value, name, key)
      for name, value, floats in zip(kept, second, floating)
    ]
    values = [given[name] for name in trained]
    out, after = model.stateless_call(values, before, x, training=train)
    return out, trees.nested(_moving(after))

  def _moving(values) -> dict[str, types.Array]:
    return {n: v for n, v, f in zip(kept, values, floating) if f}

  return from_stateful.from_stateful(init, apply, spec)


def _path(path: str) -> str:
  """Returns the name of a variable: its path without the model's name."""
  model, _, rest = path.partition('/')
  return (rest or model).replace('.', '_').replace('/', '.')


def _stream(value: np.ndarray, name: str, key: types.Array | None) -> Any:
  """Returns the state of a random stream in a pass."""
  if key is None:
    return jnp.asarray(value)
  return jax.random.bits(keys.named(key, name), value.shape, value.dtype)


def _check(model: Any) -> None:
  variables = getattr(model, 'trainable_variables', None)
  if not hasattr(model, 'stateless_call') or not variables:
    raise ValueError(
      'Expected a built keras.Model; got '
      f'{type(model).__name__}; call it once on an image, or give it an Input'
    )
  if not isinstance(variables[0].value, jax.Array):
    raise ValueError(
      'Expected Keras on JAX; got a model of another backend; set '
      'KERAS_BACKEND=jax before keras is imported'
    )
