"""The convolutions of a foreign function, lowered as those of giajax are.

A function that somebody else wrote calls XLA's convolutions, whose second
derivatives are slow on CPU under `vmap`, see `ops.convolution`. Its jaxpr says
what it does; here, that is read again, with `convolution.convolve` in the place
of `conv_general_dilated`:

  - of two spatial axes, or one, in any layout, with strides, dilated kernels
    and groups;
  - at the top level and inside jit, remat, scan, while, cond, and functions
    with derivatives of their own, whose rules stay in force and are read again
    as well.

Everything else is evaluated as it stands: transposed convolutions, those of
three spatial axes or of integers, of a stated precision on an accelerator,
those of giajax's own layers, and what is inside other primitives.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend import core
import numpy as np

from giajax import types
from giajax.ops import convolution
from giajax.ops import geometries
from giajax.ops import jaxprs


def lowered(
  fn: Callable[..., types.Tree], lowering: str = 'auto'
) -> Callable[..., types.Tree]:
  """Returns a function with the same values, and faster second derivatives.

  Args:
    fn: any function of pytrees of arrays that JAX can trace. Keyword arguments
      are passed on as they are.
    lowering: a name in `convolution.LOWERINGS`, or 'auto'.

  Returns:
    The function. Jit it, vmap it, and differentiate it in reverse mode any
    number of times; forward mode stops at its convolutions. Values differ by
    rounding. A derivative of a function with a rule of its own runs it again.
  """

  @functools.wraps(fn)
  def wrapped(*args, **kwargs):
    given = functools.partial(fn, **kwargs)
    return jaxprs.reread(given, functools.partial(_find, lowering))(*args)

  return wrapped


def _find(lowering: str, eqn: core.JaxprEqn) -> jaxprs.Rule | None:
  """Returns the rule of an equation that has a convolution of ours in it."""
  if not _is_read(eqn):
    return None
  return functools.partial(_RULES[eqn.primitive.name], lowering)


def _again(closed: core.ClosedJaxpr, lowering: str) -> Callable[..., Any]:
  find = functools.partial(_find, lowering)
  return lambda *args: jaxprs.evaluate(closed, args, find)


def _is_read(eqn: core.JaxprEqn) -> bool:
  if eqn.primitive.name == 'conv_general_dilated':
    return _is_ours(eqn)
  if eqn.params.get('branches_platforms') or eqn.params.get('symbolic_zeros'):
    return False  # of one platform, or of arguments that nobody differentiates
  inner = core.jaxprs_in_params(eqn.params)
  return eqn.primitive.name in _RULES and any(map(_convolves, inner))


def _convolves(jaxpr: core.Jaxpr) -> bool:
  return any(map(_is_read, jaxpr.eqns))


def _is_ours(eqn: core.JaxprEqn) -> bool:
  """Returns whether `convolution.convolve` does the same."""
  if convolution.SCOPE in str(eqn.source_info.name_stack):
    return False  # somebody has chosen a lowering
  params = eqn.params
  x, kernel = (v.aval.dtype for v in eqn.invars)  # pyrefly: ignore
  kinds = {x, kernel, params['preferred_element_type'] or x}
  return (
    has_form(eqn)
    and kinds <= {np.dtype('float32'), np.dtype('float64')}
    and len(kinds) == 1
    and params['out_sharding'] is None
    # Products on a CPU are never rounded.
    and (params['precision'] is None or jax.default_backend() == 'cpu')
  )


class Form(NamedTuple):
  """How the arrays of a convolution lie in those of `convolution.convolve`.

  Attributes:
    image: maps what is convolved to [B, H, W, C].
    kernel: maps the kernel to [kh, kw, C / groups, P].
    output: maps the result to [B, H', W', P].
    result: is the inverse of `output`.
    geometry: the geometry.
  """

  image: Callable[[types.Array], types.Array]
  kernel: Callable[[types.Array], types.Array]
  output: Callable[[types.Array], types.Array]
  result: Callable[[types.Array], types.Array]
  geometry: geometries.Geometry


def has_form(eqn: core.JaxprEqn) -> bool:
  """Returns whether a `conv_general_dilated` has a `Form`."""
  params, shapes = eqn.params, [v.aval.shape for v in eqn.invars]  # pyrefly: ignore
  return (
    len(shapes[0]) in (3, 4)
    and 0 not in (*shapes[0], *shapes[1], *eqn.outvars[0].aval.shape)  # pyrefly: ignore
    and set(params['lhs_dilation']) == {1}
    and params['batch_group_count'] == 1
    and min(min(pair) for pair in params['padding']) >= 0
  )


def form(params: Mapping[str, Any]) -> Form:
  """Returns the form of a convolution that `has_form`, from its params."""
  layout = params['dimension_numbers']
  strides, padding = params['window_strides'], params['padding']
  dilation, flat = params['rhs_dilation'], len(strides) == 1
  if flat:  # one row
    strides, padding = (1, *strides), ((0, 0), *padding)
    dilation = (1, *dilation)
  (top, bottom), (left, right) = padding
  geometry = geometries.Geometry(
    tuple(strides),
    ((top, bottom), (left, right)),
    params['feature_group_count'],
    tuple(dilation),
  )
  n, c, *at = layout.lhs_spec
  o, i, *taps = layout.rhs_spec
  first, last, *places = layout.out_spec
  image, kernel, out = (n, *at, c), (*taps, i, o), (first, *places, last)

  def result(y):
    return (y[:, 0] if flat else y).transpose(*np.argsort(out))

  return Form(
    lambda x: x.transpose(*image)[:, None] if flat else x.transpose(*image),
    lambda k: k.transpose(*kernel)[None] if flat else k.transpose(*kernel),
    lambda y: y.transpose(*out)[:, None] if flat else y.transpose(*out),
    result,
    geometry,
  )


def _convolution(lowering, params, operands, original):
  del original
  own = form(params)
  x, kernel = own.image(operands[0]), own.kernel(operands[1])
  y = convolution.convolve(x, kernel, own.geometry, lowering)
  return [own.result(y)]


def _call(lowering, params, operands, original):
  del original
  return _again(params['jaxpr'], lowering)(*operands)


def _remat(lowering, params, operands, original):
  del original
  again = jax.checkpoint(
    _again(core.ClosedJaxpr(params['jaxpr'], ()), lowering),
    policy=params['policy'],
    prevent_cse=params['prevent_cse'],
  )
  return again(*operands)


def _scan(lowering, params, operands, original):
  del original
  consts, carries = _counts(params)
  given, init, xs = _split(operands, consts, carries)
  step = _again(params['jaxpr'], lowering)

  def body(carry, x):
    out = step(*given, *carry, *x)
    return out[:carries], out[carries:]

  carry, ys = lax.scan(
    body,
    init,
    xs,
    params['length'],
    reverse=params['reverse'],
    unroll=params['unroll'],
  )
  return [*carry, *ys]


def _counts(params) -> tuple[int, int]:
  """Returns the numbers of constants and carries of a scan."""
  if 'num_consts' in params:
    return params['num_consts'], params['num_carry']
  consts, carries, _ = params['ft_in'].unpack()  # of JAX 0.12
  return len(consts), len(carries)


def _while(lowering, params, operands, original):
  del original
  asked, done, init = _split(
    operands, params['cond_nconsts'], params['body_nconsts']
  )
  goes_on = _again(params['cond_jaxpr'], lowering)
  step = _again(params['body_jaxpr'], lowering)
  return lax.while_loop(
    lambda c: goes_on(*asked, *c)[0], lambda c: step(*done, *c), init
  )


def _cond(lowering, params, operands, original):
  del original
  index, *rest = operands
  branches = [_again(closed, lowering) for closed in params['branches']]
  return lax.switch(index, branches, *rest)


def _custom(lowering, params, operands, original):
  """The rule stays in force, and what it computes is read again, too."""
  again = jax.custom_vjp(_again(params['call_jaxpr'], lowering))

  def output(*args):
    return jax.vjp(original, *args)[0]

  def pull(args, cotangents):
    return jax.vjp(original, *args)[1](cotangents)

  again.defvjp(
    lambda *args: (lowered(output, lowering)(*args), args),
    lambda args, cotangents: lowered(pull, lowering)(args, cotangents),
  )
  return again(*operands)


def _split(values, first, second):
  a, b = first, first + second
  return [*values[:a]], [*values[a:b]], [*values[b:]]


# By the names of primitives.
_RULES = {
  'cond': _cond,
  'conv_general_dilated': _convolution,
  'custom_jvp_call': _custom,
  'custom_vjp_call': _custom,
  'remat2': _remat,
  'scan': _scan,
  'while': _while,
  **dict.fromkeys(jaxprs.JITS, _call),
}
