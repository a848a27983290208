"""A private copy of a torch module, and its programs.

All of torch's code is run here, and what a user's module does wrong becomes one
line that names the user's own.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import copy
import logging
import threading
import traceback
from typing import Any, NamedTuple
import warnings

import numpy as np

from giajax.models import aten
from giajax.models.aten.parts import programs

# What modules and torch.export raise.
_ERRORS = (
  ArithmeticError,
  AssertionError,
  AttributeError,
  LookupError,
  NotImplementedError,
  RuntimeError,
  TypeError,
  ValueError,
)
_MODES = {False: 'an inference pass', True: 'a training pass'}


class Tensors(NamedTuple):
  """The numbers of a module, by torch's names."""

  parameters: dict[str, np.ndarray]
  buffers: dict[str, np.ndarray]
  saved: dict[str, np.ndarray]  # of the buffers, those in a state dict


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
  """Returns (C, H, W), or (F,).

  Raises:
    ValueError: something else.
  """
  sizes = tuple(shape)
  if len(sizes) not in (1, 3) or not all(
    isinstance(size, int) and size > 0 for size in sizes
  ):
    raise ValueError(
      f'Expected input_shape=(C, H, W) or (F,), all at least 1; got '
      f'input_shape={shape}; correct it'
    )
  return sizes


class Export:
  """A copy of a module that is exported when a program is asked for.

  Attributes:
    title: the name of the network, for messages.
    tensors: its numbers when it was copied.
    names: the names of its state dict, in order.
    untrained: those of parameters that required no gradient.
  """

  def __init__(self, module: Any, shape: tuple[int, ...], title: str):
    self._torch = _torch(title)
    self.title = title
    self._shape = shape
    self._module = _copied(self._torch, module, title)
    self._programs: dict[tuple[bool, int], programs.Program] = {}
    self._lock = threading.Lock()
    self.tensors = _tensors(self._module)
    self.names = tuple(self._module.state_dict())
    named = module.named_parameters()
    self.untrained = tuple(n for n, p in named if not p.requires_grad)

  def logits(
    self, state: Mapping[str, np.ndarray], images: np.ndarray, train: bool
  ) -> np.ndarray:
    """Returns what torch itself computes, [B, K, ...]; dropout may draw.

    Args:
      state: parameters and running statistics, by torch's names.
      images: [B, C, H, W] or [B, F] float32.
      train: whether it is a training pass.
    """
    torch = self._torch
    with self._lock, self._quiet(), torch.no_grad():
      module = copy.deepcopy(self._module).train(train)
      tensors = {n: torch.from_numpy(np.array(v)) for n, v in state.items()}
      module.load_state_dict(tensors, strict=False)
      return module(torch.from_numpy(np.array(images))).numpy()

  def classes(self, batch: int) -> int:
    """Returns the number of logits K, after a pass in each mode.

    Args:
      batch: the number of images of the passes.

    Raises:
      ValueError: the module cannot be run, or returns something else.
    """
    with self._lock, self._quiet():
      found = {self._rehearse(train, batch) for train in _MODES}
    if len(found) > 1:
      raise ValueError(
        f'Expected logits of one shape in both modes; got {sorted(found)} of '
        f'{self.title}; return the same in both'
      )
    return found.pop()[0]

  def program(self, train: bool, batch: int) -> programs.Program:
    """Returns the program of a mode for a batch size.

    Args:
      train: whether it is a training pass.
      batch: the number of images.

    Raises:
      ValueError: the module cannot be run or exported, or uses operators that
        `aten.OPERATORS` lacks.
    """
    with self._lock:
      key = (train, batch)
      if key not in self._programs:
        with self._quiet():
          self._rehearse(train, batch)
          self._programs[key] = self._exported(train, batch)
      return self._programs[key]

  def _rehearse(self, train: bool, batch: int) -> tuple[int, ...]:
    """Runs torch's own pass, whose messages are clearest; returns (K, ...)."""
    module, images = self._module.train(train), self._images(batch)
    before = {k: v.clone() for k, v in module.named_buffers()}
    with self._refusing(f'runs {_MODES[train]} on inputs {[*images.shape]}'):
      logits = module(images)
    with self._torch.no_grad():
      for name, buffer in module.named_buffers():
        if name in before:
          buffer.copy_(before[name])
    self._check_logits(logits, batch)
    own = sorted({*_own_functions(self._torch, logits.grad_fn)})
    if own:
      raise ValueError(
        f'Expected derivatives that torch.export keeps; got {own[0]} in '
        f'{self.title}, an autograd.Function whose backward it forgets; write '
        "it with torch's operators"
      )
    return tuple(logits.shape[1:])

  def _check_logits(self, logits: Any, batch: int) -> None:
    tensor = isinstance(logits, self._torch.Tensor)
    if tensor and logits.ndim >= 2 and len(logits) == batch:
      if logits.dtype == self._torch.float32:
        return
      got = f'numbers of {str(logits.dtype).removeprefix("torch.")}'
    elif tensor:
      got = f'a tensor of shape {[*logits.shape]} for {batch} images'
    else:
      got = f'a {type(logits).__name__}'
    raise ValueError(
      f'Expected one float32 tensor [B, K] or [B, K, ...]; got {got} of '
      f'{self.title}; wrap it in a module that returns that only'
    )

  def _exported(self, train: bool, batch: int) -> programs.Program:
    module, images = self._module.train(train), self._images(batch)
    with self._refusing(f'torch.export can follow in {_MODES[train]}'):
      program, unknown = programs.of_module(module, images, aten.OPERATORS)
    if unknown:
      named = '; '.join(
        f'{target} at {lines[0]}' for target, lines in sorted(unknown.items())
      )
      raise ValueError(
        f'Expected operators that giajax has; got {named}; write '
        f'{self.title} without them, or bring it by from_callable'
      )
    return program

  def _images(self, batch: int) -> Any:
    return self._torch.full((batch, *self._shape), 0.5)

  @contextlib.contextmanager
  def _refusing(self, what: str) -> Iterator[None]:
    """Turns what a module raises into one line."""
    try:
      yield
    except _ERRORS as error:
      raise ValueError(
        f'Expected a module that {what}; got {self.title}, where '
        f'{_sentence(error)}{_place(error)}; correct the module or input_shape'
      ) from error

  @contextlib.contextmanager
  def _quiet(self) -> Iterator[None]:
    """Keeps torch's random numbers, settings and warnings to a pass."""
    torch = self._torch
    fast = torch.backends.mha.get_fastpath_enabled()
    log = logging.getLogger('torch')
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # what is wrong is said in one line
    with (
      torch.random.fork_rng(devices=[]),
      torch.inference_mode(False),
      torch.enable_grad(),
      warnings.catch_warnings(),
    ):
      warnings.simplefilter('ignore')
      torch.manual_seed(0)
      # A kernel for inference that is one operator, and has no derivative.
      torch.backends.mha.set_fastpath_enabled(False)
      try:
        yield
      finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        log.setLevel(level)


def _torch(title: str) -> Any:
  try:
    import torch  # pyrefly: ignore
  except ImportError as error:
    raise ValueError(
      f'Expected torch for a module of it; got {title} without it; install '
      'giajax[torch]'
    ) from error
  return torch


def _copied(torch: Any, module: Any, title: str) -> Any:
  """Returns a copy of a module whose parameters all have derivatives.

  Raises:
    ValueError: no module, or one that cannot be copied or that giajax cannot
      represent.
  """
  if not isinstance(module, torch.nn.Module):
    raise ValueError(
      f'Expected a torch.nn.Module; got module={title}; pass the module itself'
    )
  _check_parameters(torch, module, title)
  _check_norms(torch, module, title)
  try:
    copied = copy.deepcopy(module).cpu()
  except _ERRORS as error:
    raise ValueError(
      f'Expected a module that can be copied; got {title}, where '
      f'{_sentence(error)}; use torch.nn.utils.parametrizations, or load its '
      'state dict into a new one'
    ) from error
  for parameter in copied.parameters():
    parameter.requires_grad_(True)
    parameter.grad = None
  return copied


def _check_parameters(torch: Any, module: Any, title: str) -> None:
  names: dict[Any, str] = {}
  for name, parameter in module.named_parameters(remove_duplicate=False):
    if parameter in names:
      raise ValueError(
        f'Expected parameters of one name each; got {name!r} in {title}, which '
        f'is {names[parameter]!r} as well; give each layer its own'
      )
    names[parameter] = name
    lazy = isinstance(parameter, torch.nn.parameter.UninitializedParameter)
    if lazy or parameter.dtype != torch.float32:
      kind = 'no shape' if lazy else str(parameter.dtype)
      raise ValueError(
        f'Expected float32 parameters; got {name!r} of {kind} in {title}; '
        + ('run the module once' if lazy else 'call module.float()')
      )


def _check_norms(torch: Any, module: Any, title: str) -> None:
  """Raises ValueError for running statistics that depend on a counter."""
  nn = torch.nn
  kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
  for name, layer in module.named_modules():
    counted = isinstance(layer, kinds) and layer.momentum is None
    if counted and layer.track_running_stats:
      raise ValueError(
        f'Expected a momentum for running statistics; got {name!r} in '
        f'{title} with momentum=None, a mean over all passes; set one'
      )


def _tensors(module: Any) -> Tensors:
  parameters, buffers = (
    {name: tensor.detach().numpy().copy() for name, tensor in named}
    for named in (module.named_parameters(), module.named_buffers())
  )
  saved = {k: v for k, v in buffers.items() if k in module.state_dict()}
  return Tensors(parameters, buffers, saved)


def _own_functions(torch: Any, node: Any) -> Iterator[str]:
  """Yields the names of autograd.Functions in the graph behind a node."""
  seen, waiting = set(), [node]
  while waiting:
    node = waiting.pop()
    if node is None or node in seen:
      continue
    seen.add(node)
    if isinstance(node, torch.autograd.function.BackwardCFunction):
      yield type(node).__name__.removesuffix('Backward')
    waiting.extend(part for part, _ in node.next_functions)


def _sentence(error: BaseException) -> str:
  """Returns the first sentence of a message, as one line."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  first = lines[0].partition('. ')[0].rstrip('.:') if lines else ''
  return f'torch says: {first}' if first else type(error).__name__


def _place(error: BaseException) -> str:
  """Returns the innermost line outside torch and giajax, if there is one."""
  frames = traceback.extract_tb(error.__traceback__)
  own = [
    frame
    for frame in frames
    if '/site-packages/torch/' not in frame.filename
    and frame.filename != __file__
    and frame.filename != programs.__file__
    and not frame.filename.startswith('<')
  ]
  if not own:
    return ''
  return f' at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}'
