"""The user's own Python: config files, and rows that a config names by file."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import hashlib
import importlib
import inspect
import operator
import os
import pathlib
import random
import re
import sys
import traceback
import types
from typing import Any

from flax import linen
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from giajax import paths
from giajax import registry
from giajax.models import base
from giajax.models import from_linen
from giajax.models import from_nnx

_ADDRESS = re.compile(r'0x[0-9a-f]+')  # of a function, in a jaxpr
_USES = re.compile(rb'^\s*(?:import|from)\s+(torch|keras)\b', re.M)
# What begins the names of networks that this process was given.
_GIVEN = 'given'
_given: dict[str, base.Net] = {}
_NORMALISATION = 'none'  # of a network that says nothing: images in [0, 1]


def names(config: Any) -> list[str]:
  """Returns the names of the user's own rows in a config without a sweep."""
  if isinstance(config, Mapping):
    own = [n for n in [config.get('name')] if isinstance(n, str) and ':' in n]
    return own + [name for value in config.values() for name in names(value)]
  if isinstance(config, list | tuple):
    return [name for value in config for name in names(value)]
  return []


def modules(config: Any) -> list[types.ModuleType]:
  """Returns the modules that hold the user's own rows of a config.

  Args:
    config: resolved, without a sweep.

  Raises:
    ValueError: see `named`.
  """
  own = (n for n in names(config) if not n.startswith(f'{_GIVEN}:'))
  return [_home(name, 'a row')[0] for name in own]


def executed(path: pathlib.Path, name: str, what: str) -> types.ModuleType:
  """Returns the module of a file of the user's.

  Args:
    path: the file.
    name: under which the module is known.
    what: what the file is, for messages.

  Raises:
    ValueError: it cannot be read, or something in it fails.
  """
  module = types.ModuleType(name)
  module.__file__ = str(path)
  sys.modules[name] = module  # classes of the file look it up
  source = path.read_bytes()
  if _USES.search(source):
    # A network at its top draws its weights when the file is run.
    with_failures_named(lambda: _imported_libraries(source), path, what)
  with _seeded():
    with_failures_named(
      lambda: exec(compile(source, str(path), 'exec'), vars(module)), path, what
    )
  return module


def _imported_libraries(source: bytes) -> None:
  """Imports what a file imports of torch and Keras, before it is seeded."""
  for name in {m.decode() for m in _USES.findall(source)}:
    if name == 'torch':  # Keras reads its backend when it is imported
      importlib.import_module(name)


def with_failures_named(
  run: Callable[[], Any], path: pathlib.Path, what: str
) -> Any:
  """Returns what a function of a file returns.

  Args:
    run: the function.
    path: the file.
    what: what the file is, for messages.

  Raises:
    ValueError: the function failed; the line says where in the file.
  """
  try:
    return run()
  except BaseException as error:  # the file may raise anything
    if isinstance(error, ValueError) and str(error).startswith('Expected'):
      raise
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = ' '.join([f'{_where(error, path)}:', *text.split()]).rstrip(':')
    advice = 'correct the file' if 'file' in what else 'correct it'
    if isinstance(error, ModuleNotFoundError):
      advice = f'install {error.name}, or correct the name'
    raise ValueError(
      f'Expected a {what} that runs; got {type(error).__name__} at {reason}; '
      f'{advice}'
    ) from error


def given(net: base.Net) -> str:
  """Returns the name of a network of this process, for a config.

  Only this process finds it by that name: another one has to be given it again.

  Args:
    net: the network.
  """
  name = f'{_GIVEN}:{net.spec.name}-{_fingerprint(net)}'
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


def named(name: str, kind: str) -> Any:
  """Returns what 'FILE.py:NAME' or 'package.module:NAME' names, as a factory.

  Args:
    name: the name; a file is looked up from the current folder.
    kind: what it is to be, such as 'model', for messages.

  Raises:
    ValueError: no such file, module or name; or something in it that fails, or
      that is no factory.
  """
  if name.startswith(f'{_GIVEN}:'):
    return _of_given(name)
  module, home, attribute = _home(name, kind)
  found = getattr(module, attribute, None)
  if found is None:
    own = [
      n
      for n, value in vars(module).items()
      if getattr(value, '__module__', None) == module.__name__
    ]
    near = registry.closest(attribute, own)
    advice = f'did you mean {near!r}?' if near else 'correct the name'
    raise ValueError(
      f'Expected a name in {home} ({", ".join(sorted(own))}) for {kind}.name; '
      f'got {attribute!r}; {advice}'
    )
  factory = _model(found, attribute) if kind == 'model' else found
  if not callable(factory):
    raise ValueError(
      f'Expected a function or a class for {kind}.name={name!r}; got '
      f'{factory!r}; name another'
    )
  return factory


def called(name: str, make: Callable[[], Any]) -> Any:
  """Returns what a factory of the user's own makes.

  Args:
    name: the name of the row, as in `named`.
    make: calls it.

  Raises:
    ValueError: it failed; the line says where.
  """
  if name.startswith(f'{_GIVEN}:'):
    return make()
  file = _home(name, 'a row')[0].__file__
  return with_failures_named(make, pathlib.Path(str(file)), 'row of your own')


def _home(name: str, kind: str) -> tuple[types.ModuleType, str, str]:
  """Returns the module of a name, and the name's two halves."""
  home, _, attribute = name.rpartition(':')
  if not home.endswith('.py'):
    return _imported(home, kind), home, attribute
  path = paths.expanded(home, f'{kind}.name').absolute()
  if not os.path.isfile(path):
    raise ValueError(
      f'Expected a Python file for {kind}.name; got {home!r}, which is not '
      'there; correct the path'
    )
  return _module(path, path.stat().st_mtime_ns), home, attribute


@functools.lru_cache(maxsize=16)
def _module(path: pathlib.Path, changed: int) -> types.ModuleType:
  """Runs a file once, and again if it has changed."""
  del changed
  folder = str(path.parent)  # what it imports may stand beside it
  if folder not in sys.path:
    sys.path.append(folder)
  # Files of one name in several folders are different modules.
  mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
  return executed(path, f'giajax_own_{path.stem}_{mark}', 'Python file')


def _imported(name: str, kind: str) -> types.ModuleType:
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  where = pathlib.Path(*name.split('.'))
  if not name.replace('.', '').isidentifier():
    raise ValueError(
      f'Expected FILE.py:NAME or package.module:NAME for {kind}.name; got '
      f'{name!r} before the colon; correct it'
    )
  return with_failures_named(
    lambda: importlib.import_module(name), where, 'Python module'
  )


def _model(found: Any, name: str) -> Any:
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


def _of_given(name: str) -> Any:
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
  with _seeded():
    made = found(**options)
  if _is_foreign(type(made)):
    if any(name in sys.modules for name in _LIBRARIES if name not in there):
      with _seeded():  # it has imported the library itself
        made = found(**options)
    _keep(key, made)
  return made


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
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
  now = _weights_of(made)
  key = (made, now, spec, normalisation, lowering)
  if key not in _kept:
    net = from_torch.from_torch(
      made,
      (channels, height, width),
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


def _where(error: BaseException, path: pathlib.Path) -> str:
  """Returns the user's file and line that an error comes from."""
  if isinstance(error, SyntaxError) and (error.filename or '<')[0] != '<':
    return f'{error.filename}:{error.lineno}'
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == str(path)]
  return f'{path}:{lines[-1]}' if lines else str(path)
