"""Networks of the user's own, of any library, as factories of a Net."""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import hashlib
import inspect
import operator
import random
import re
import sys
from typing import Any

from flax import linen
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax.models import base
from giajax.models import from_linen
from giajax.models import from_nnx

_ADDRESS = re.compile(r'0x[0-9a-f]+')  # of a function, in a jaxpr
# What begins the names of networks that this process was given.
GIVEN = 'given'
_given: dict[str, base.Net] = {}
_NORMALISATION = 'none'  # of a network that says nothing: images in [0, 1]


def given(net: base.Net) -> str:
  """Returns the name of a network of this process, for a config.

  Only this process finds it by that name: another one has to be given it again.

  Args:
    net: the network.
  """
  name = f'{GIVEN}:{net.spec.name}-{_fingerprint(net)}'
  _given[name] = net
  return name


def _fingerprint(net: base.Net) -> str:
  """Returns what tells networks apart: of their passes, constants and spec."""
  variables = jax.eval_shape(net.init, jax.random.key(0))
  x = jax.ShapeDtypeStruct((2, *net.spec.image_shape), jnp.float32)
  whole = hashlib.sha256(repr(net.spec).encode())
  for train in (False, True):
    run = functools.partial(net.apply, train=train)
    closed = jax.make_jaxpr(lambda v, x, key, run=run: run(v, x, key=key))(
      variables, x, jax.random.key(0)
    )
    whole.update(_ADDRESS.sub('', str(closed.jaxpr)).encode())
    for constant in closed.consts:
      whole.update(np.asarray(constant).tobytes())
  return whole.hexdigest()[:12]


def factory_of(found: Any, name: str) -> Any:
  """Returns a factory of a Net, which a module of flax is made to."""
  is_class = isinstance(found, type)
  if is_class and issubclass(found, nnx.Module):
    return _of_nnx(found, name)
  if isinstance(found, linen.Module) or (
    is_class and issubclass(found, linen.Module)
  ):
    return _of_linen(found, name)
  if _is_foreign(type(found)) or (is_class and _is_foreign(found)):
    return _of_foreign(found, name)
  return _of_function(found, name) if inspect.isfunction(found) else found


def of_given(name: str) -> Any:
  """Returns a factory of a network that this process was given."""
  if name not in _given:
    raise ValueError(
      f'Expected a network that was given to giajax.audit; got {name!r}, which '
      'this process does not have; give it again, or name its file'
    )

  def factory(*, image_shape, num_classes):
    del image_shape, num_classes
    return _given[name]

  return factory


def _is_foreign(cls: type) -> bool:
  """Returns whether a class is a model of torch or Keras; imports nothing."""
  return _is_of(cls, 'torch', 'nn.Module') or _is_of(cls, 'keras', 'Model')


def _is_of(cls: type, library: str, name: str) -> bool:
  module = sys.modules.get(library)
  if module is None:
    return False
  return issubclass(cls, operator.attrgetter(name)(module))


def _of_nnx(cls: Any, name: str) -> Any:
  # The class itself takes whatever its metaclass does.
  own = _parameters(cls.__init__)

  def make(options, spec, normalisation, lowering):
    del normalisation
    return from_nnx.from_nnx(
      lambda rngs: cls(**options, rngs=rngs), spec, lowering
    )

  return _of_module(cls, name, own, make)


def _of_linen(found: Any, name: str) -> Any:
  own = inspect.signature(found).parameters if isinstance(found, type) else {}
  # What every linen module has.
  own = {n: p for n, p in own.items() if n not in ('parent', 'name')}

  def make(options, spec, normalisation, lowering):
    del normalisation, lowering
    module = found(**options) if isinstance(found, type) else found
    return from_linen.from_linen(module, spec)

  return _of_module(found, name, own, make)


def _of_foreign(found: Any, name: str) -> Any:
  """Returns a factory of a model of torch or Keras, or of a class of them."""
  own = _parameters(found.__init__) if isinstance(found, type) else {}

  def make(options, spec, normalisation, lowering):
    made = _made(found, options) if isinstance(found, type) else found
    return _foreign_net(made, spec, normalisation, lowering)

  return _of_module(found, name, own, make)


def _of_module(found: Any, name: str, own: Mapping[str, Any], make: Any) -> Any:
  """Returns a factory of the Net of a module.

  Args:
    found: the module, or its class.
    name: its name.
    own: the arguments of its class, by name.
    make: `(options, spec, normalisation, lowering) -> Net`.
  """

  def factory(
    image_shape,
    num_classes,
    normalisation=_NORMALISATION,
    lowering='auto',
    **options,
  ):
    spec = base.make_spec(name, image_shape, num_classes, normalisation)
    given = {'image_shape': image_shape, 'num_classes': num_classes}
    options |= {n: v for n, v in given.items() if n in own}
    return make(options, spec, normalisation, lowering)

  return _signed(factory, own.values(), found)


def _of_function(found: Any, name: str) -> Any:
  """Returns a factory of a function, which may return such a model."""
  own = _parameters(found)

  def factory(image_shape, num_classes, lowering='auto', **options):
    given = {'image_shape': image_shape, 'num_classes': num_classes}
    given |= {'lowering': lowering}
    normalisation = options.get('normalisation', _NORMALISATION)
    taken = {n: v for n, v in {**given, **options}.items() if n in own}
    made = _made(found, taken)
    if _is_foreign(type(made)):
      spec = base.make_spec(name, image_shape, num_classes, normalisation)
      return _foreign_net(made, spec, normalisation, lowering)
    if 'normalisation' in options and 'normalisation' not in own:
      raise ValueError(
        f'Expected arguments that {name} takes; got model.normalisation='
        f'{normalisation!r}; leave it out, or take it'
      )
    return made

  return _signed(factory, own.values(), found)


# What a call made, by what was called and its arguments: networks of torch and
# Keras draw their weights when they are made, and take seconds to be exported.
_kept: dict[Any, Any] = {}
_KEPT = 8  # of them
_LIBRARIES = ('torch', 'keras')


def _made(found: Any, options: Mapping[str, Any]) -> Any:
  """Returns what a class or function makes, of the same random numbers."""
  key = (found, repr(sorted(options.items())))
  if key in _kept:
    return _kept[key]
  there = {name for name in _LIBRARIES if name in sys.modules}
  with seeded():
    made = found(**options)
  if _is_foreign(type(made)):
    if any(name in sys.modules for name in _LIBRARIES if name not in there):
      with seeded():  # it has imported the library itself
        made = found(**options)
    _keep(key, made)
  return made


@contextlib.contextmanager
def seeded() -> Iterator[None]:
  """Seeds what torch and Keras draw weights from, and restores it."""
  state, numpy_state = random.getstate(), np.random.get_state()
  try:
    with contextlib.ExitStack() as stack:
      if 'torch' in sys.modules:
        torch_random = sys.modules['torch'].random
        stack.enter_context(torch_random.fork_rng())
        torch_random.manual_seed(0)
      if 'keras' in sys.modules:
        sys.modules['keras'].utils.set_random_seed(0)
      yield
  finally:
    random.setstate(state)
    np.random.set_state(numpy_state)


def _keep(key: Any, value: Any) -> None:
  if len(_kept) >= _KEPT:
    del _kept[next(iter(_kept))]
  _kept[key] = value


def _foreign_net(
  made: Any, spec: base.Spec, normalisation: str, lowering: str
) -> base.Net:
  """Returns the Net of a model of torch or Keras."""
  # These libraries are imported already, and giajax needs neither.
  from giajax.models import from_keras
  from giajax.models import from_torch

  if _is_of(type(made), 'keras', 'Model'):
    return from_keras.from_keras(made, spec)
  height, width, channels = spec.image_shape
  is_row = (height, width) == (1, 1)
  now = _weights_of(made)
  key = (made, now, spec, normalisation, lowering)
  if key not in _kept:
    net = from_torch.from_torch(
      made,
      (channels,) if is_row else (channels, height, width),
      num_classes=spec.num_classes,
      normalisation=normalisation,
      lowering=lowering,
      name=spec.name,
    )
    _keep(key, net)
  return _kept[key]


def _weights_of(module: Any) -> str:
  """Returns the sum of the weights and buffers of a module of torch."""
  whole = hashlib.sha256()
  for name, tensor in module.state_dict().items():
    whole.update(name.encode())
    whole.update(tensor.detach().cpu().numpy().tobytes())
  return whole.hexdigest()


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
  """Returns the named arguments of a function or of a class's `__init__`."""
  parameters = dict(inspect.signature(function).parameters)
  if function.__name__ == '__init__':
    del parameters[next(iter(parameters))]  # the object itself
  return {
    name: parameter
    for name, parameter in parameters.items()
    if name != 'rngs'
    and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
  }


def _signed(factory, own, found):
  """Gives a factory the arguments of a module's class beside the usual ones."""
  usual = inspect.signature(_usual).parameters
  named = {p.name: p.replace(kind=p.KEYWORD_ONLY) for p in own}
  factory.__signature__ = inspect.Signature([*{**named, **usual}.values()])
  # The file that defines it is a part of the run, see `identity`.
  is_home = isinstance(found, type) or inspect.isfunction(found)
  factory.__wrapped__ = found if is_home else type(found)
  factory.__doc__ = factory.__wrapped__.__doc__
  return factory


def _usual(
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
  normalisation: str = _NORMALISATION,
  lowering: str = 'auto',
) -> None:
  """The arguments of every network."""
