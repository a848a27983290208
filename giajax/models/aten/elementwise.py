"""Operators that map numbers one by one, with torch's derivatives at ties."""

from typing import Any

import jax
import jax.numpy as jnp

from giajax.models.aten import base
from giajax.models.aten.parts import values
from giajax.ops import fusion_barrier


def add(run: base.Pass, x: Any, y: Any, alpha: float = 1) -> values.Value:
  """Returns x + alpha y. The sum of two branches is computed once."""
  del run
  (one, other), order = values.aligned((x, y))
  total = one + (other if alpha == 1 else alpha * other)
  if _is_residual(x, y):
    total = fusion_barrier.fusion_barrier(total)
  return values.Value(total, order)


def _is_residual(x, y) -> bool:
  both = all(isinstance(v, values.Value) for v in (x, y))
  return (
    both
    and x.shape == y.shape
    and x.ndim > 2
    and not (x.name or y.name)
    and jnp.issubdtype(x.array.dtype, jnp.floating)
  )


def subtract(x: Any, y: Any, alpha: float = 1) -> Any:
  """Returns x - alpha y."""
  return x - (y if alpha == 1 else alpha * y)


def subtract_from(x: Any, y: Any, alpha: float = 1) -> Any:
  """Returns y - alpha x."""
  return subtract(y, x, alpha)


def divide(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
  """Returns x / y, perhaps rounded towards zero or down."""
  if rounding_mode == 'floor':
    return jnp.floor_divide(x, y)
  if rounding_mode == 'trunc':
    whole = jnp.issubdtype(jnp.result_type(x, y), jnp.integer)
    return (
      jax.lax.div(*jnp.broadcast_arrays(x, y)) if whole else jnp.trunc(x / y)
    )
  return jnp.true_divide(x, y)


def power(x: Any, y: Any) -> Any:
  """Returns x ** y, by products for a whole number y."""
  if isinstance(y, float) and y.is_integer():
    y = int(y)
  return jnp.power(x, y)


def clamp(x: Any, low: Any = None, high: Any = None) -> Any:
  """Returns x within bounds; at a bound, the derivative is 1."""
  if low is not None:
    x = jnp.where(x < low, low, x)
  if high is not None:
    x = jnp.where(x > high, high, x)
  return x


def hardtanh(x: Any, low: float = -1.0, high: float = 1.0) -> Any:
  """Returns x within bounds; at a bound, the derivative is 0."""
  return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


def gelu(x: Any, *, approximate: str = 'none') -> Any:
  """Returns x times the normal distribution function at x."""
  return jax.nn.gelu(x, approximate=approximate == 'tanh')


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
  """Returns x where it is above 0, else slope times x."""
  return jnp.where(x > 0, x, slope * x)


def elu(
  x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> Any:
  """Returns scale times x, or alpha (exp(input_scale x) - 1) below 0."""
  below = alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale)
  return scale * jnp.where(x > 0, x, below)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
  """Returns log(1 + exp(beta x)) / beta, or x above threshold / beta."""
  near = jnp.where(beta * x > threshold, 0, x)
  return jnp.where(
    beta * x > threshold, x, jnp.log1p(jnp.exp(beta * near)) / beta
  )


def where(condition: Any, x: Any, y: Any) -> Any:
  """Returns x where the condition holds, else y."""
  return jnp.where(condition, x, y)


def fill(x: Any, number: Any) -> Any:
  """Returns a number everywhere."""
  return jnp.full_like(x, number)


def to_copy(
  run: base.Pass, x: values.Value, *, dtype: str | None = None, **_: Any
) -> values.Value:
  """Returns x in another type; floating types that stand for one stay."""
  if dtype is None:
    return x
  return x.with_array(x.array.astype(run.kind(dtype)))


def same(run: base.Pass, x: values.Value, *_: Any, **__: Any) -> values.Value:
  """Returns x."""
  del run
  return x


def detach(run: base.Pass, x: values.Value) -> values.Value:
  """Returns x, through which no derivative passes."""
  del run
  return x.with_array(jax.lax.stop_gradient(x.array))


def copy(
  run: base.Pass, x: values.Value, y: values.Value, *_: Any
) -> values.Value:
  """Returns y in the shape and type of x."""
  del run
  array = jnp.broadcast_to(y.logical(), x.shape)
  return values.of(array.astype(x.array.dtype))


def log_sigmoid(
  run: base.Pass, x: values.Value
) -> tuple[values.Value, values.Value]:
  """Returns the logarithm of the sigmoid, and a buffer that nobody reads."""
  del run
  return x.with_array(jax.nn.log_sigmoid(x.array)), x
