"""Captures: what a server sent to a client and what came back, in one file.

A capture is a .safetensors file. Its tensors are

  sent/NAME      the weights that the client started from
  received/NAME  what came back
  truth/x, truth/y   optional: the client's images and labels

with the names of the state dict, or arr_0, arr_1, ... in its order; and its
metadata are

  giajax_capture  the version of this format, '1'
  about           JSON: form ('weights', 'delta' or 'gradient'), and what is
                  known of client, examples, input_shape, num_classes, round

`giajax audit --capture=FILE` reads it, and so do `weights.path`,
`source.received` and `source.truth` of a config. A server writes captures by
`save`, or by `watch` around a strategy of Flower:

  strategy = giajax.capture.watch(FedAvg(...), 'captures')

This module needs numpy and safetensors alone.
"""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from safetensors import numpy as safetensors

from giajax import archives

VERSION = '1'
_FORMAT, _ABOUT = 'giajax_capture', 'about'
PARTS = ('sent', 'received', 'truth')

Tensors = Mapping[str, Any] | Sequence[Any]


class Capture(NamedTuple):
  """What one capture holds."""

  sent: dict[str, np.ndarray]
  received: dict[str, np.ndarray]
  truth: dict[str, np.ndarray]  # 'x' and 'y', or nothing
  about: dict[str, Any]


def save(
  path: str | os.PathLike[str],
  sent: Tensors,
  received: Tensors,
  *,
  form: str = 'weights',
  truth: tuple[Any, Any] | None = None,
  **about: Any,
) -> pathlib.Path:
  """Writes a capture, and returns its path.

  Args:
    path: a name that ends in .safetensors.
    sent: the weights that the client started from: a state dict, or a list of
      arrays in its order. Tensors of torch are taken as well.
    received: what came back, in the same form.
    form: what that is: 'weights', 'delta' (new minus old) or 'gradient'.
    truth: the client's images [B, H, W, C] in [0, 1] and labels [B], in a test
      of one's own.
    **about: what JSON can say and is known of the client: `client` (a row of
      `giajax --list` and its arguments), `examples`, `input_shape`,
      `num_classes`, `round`.

  Raises:
    ValueError: another ending, or nothing that was sent or received.
  """
  path = pathlib.Path(path)
  if path.suffix != '.safetensors':
    raise ValueError(
      'Expected a name that ends in .safetensors for a capture; got '
      f'{str(path)!r}; rename it'
    )
  images: dict[str, Any] = {} if truth is None else dict(zip('xy', truth))
  parts: dict[str, Tensors] = {'sent': sent, 'received': received}
  empty = [part for part, values in parts.items() if not _named(values)]
  if empty:
    raise ValueError(
      f'Expected tensors that were sent and tensors that came back; got none '
      f'in {", ".join(empty)}; pass both'
    )
  return write(path, {**parts, 'truth': images}, form, **about)


def write(
  path: pathlib.Path, parts: Mapping[str, Tensors], form: str, **about: Any
) -> pathlib.Path:
  """Writes some parts of a capture, see `save`."""
  tensors = {
    f'{part}/{name}': _array(value)
    for part, values in parts.items()
    for name, value in _named(values).items()
  }
  text = json.dumps({'form': form, **about})
  safetensors.save_file(tensors, path, {_FORMAT: VERSION, _ABOUT: text})
  return path


def load(path: str | os.PathLike[str]) -> Capture:
  """Returns what a capture holds.

  Raises:
    ValueError: the file is missing, damaged, or no capture of this version.
  """
  tensors = archives.read(path)
  metadata = archives.metadata(path)
  if metadata.get(_FORMAT) != VERSION:
    raise ValueError(
      f'Expected a capture of version {VERSION}; got path={str(path)!r} with '
      f'{_FORMAT}={metadata.get(_FORMAT)!r}; write it by giajax.capture.save'
    )
  about = _about(metadata.get(_ABOUT, '{}'), path)
  sent, received, truth = (part_of(tensors, part) for part in PARTS)
  return Capture(sent, received, truth, about)


def part_of(
  tensors: Mapping[str, np.ndarray], part: str
) -> dict[str, np.ndarray]:
  """Returns one part of a capture's tensors, {} where it has none.

  Args:
    tensors: all of them, by name.
    part: one of `PARTS`.
  """
  start = f'{part}/'
  return {
    name.removeprefix(start): value
    for name, value in tensors.items()
    if name.startswith(start)
  }


def watch(
  strategy: Any,
  folder: str | os.PathLike[str],
  *,
  names: Sequence[str] | None = None,
  **about: Any,
) -> Any:
  """Makes a strategy of Flower write a capture of every reply.

  Args:
    strategy: a strategy of `flwr.serverapp` (messages) or of `flwr.server`
      (parameters). Its methods are replaced on this object.
    folder: where captures go: roundR-clientC.safetensors.
    names: the names of the state dict in order, for strategies that exchange
      lists of arrays.
    **about: as for `save`.

  Returns:
    The strategy.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  messages = hasattr(strategy, 'configure_train')
  ask, answer = (
    ('configure_train', 'aggregate_train')
    if messages
    else ('configure_fit', 'aggregate_fit')
  )
  configure, aggregate = getattr(strategy, ask), getattr(strategy, answer)
  sent: dict[int, Tensors] = {}

  def configured(server_round, arrays, *args, **kwargs):
    sent[server_round] = _tensors(arrays, names)
    return configure(server_round, arrays, *args, **kwargs)

  def aggregated(server_round, replies, *args, **kwargs):
    replies = list(replies)
    for number, reply in enumerate(replies):
      found = _of_message(reply) if messages else _of_result(reply, names)
      if found:
        received, examples = found
        path = folder / f'round{server_round}-client{number}.safetensors'
        own: Any = {'examples': examples, 'round': server_round, **about}
        save(path, sent[server_round], received, **own)
    return aggregate(server_round, replies, *args, **kwargs)

  setattr(strategy, ask, configured)
  setattr(strategy, answer, aggregated)
  return strategy


def _of_message(reply: Any) -> tuple[Tensors, int | None] | None:
  """Returns the arrays of a reply of Flower's, and the number of examples."""
  if reply.has_error():
    return None
  (arrays,) = reply.content.array_records.values()
  examples = [
    metrics['num-examples']
    for metrics in reply.content.metric_records.values()
    if 'num-examples' in metrics
  ]
  return _tensors(arrays, None), int(examples[0]) if examples else None


def _of_result(
  result: Any, names: Sequence[str] | None
) -> tuple[Tensors, int | None]:
  """Returns the same of a client's FitRes."""
  _, fitted = result
  return _tensors(fitted.parameters, names), int(fitted.num_examples)


def _tensors(arrays: Any, names: Sequence[str] | None) -> Tensors:
  """Returns the tensors of a record or of parameters of Flower's."""
  if isinstance(arrays, Mapping):  # an ArrayRecord
    return {name: value.numpy() for name, value in arrays.items()}
  from flwr.common import parameters_to_ndarrays  # pyrefly: ignore

  values = parameters_to_ndarrays(arrays)
  if names is None:
    return values
  if len(names) != len(values):
    raise ValueError(
      f'Expected {len(values)} names for the arrays that are exchanged; got '
      f'{len(names)}; pass list(model.state_dict())'
    )
  return dict(zip(names, values))


def _named(values: Tensors) -> dict[str, Any]:
  if isinstance(values, Mapping):
    return dict(values)
  return {f'arr_{i}': value for i, value in enumerate(values)}


def _array(value: Any) -> np.ndarray:
  """Returns an array of what may be a tensor of torch."""
  if hasattr(value, 'detach'):
    value = value.detach().cpu().numpy()
  return np.ascontiguousarray(value).reshape(np.shape(value))


def _about(text: str, path: str | os.PathLike[str]) -> dict[str, Any]:
  try:
    about = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'Expected JSON about the capture {str(path)!r}; got {error}; write it '
      'by giajax.capture.save'
    ) from error
  if not isinstance(about, dict):
    raise ValueError(
      f'Expected a dict about the capture {str(path)!r}; got {about!r}; write '
      'it by giajax.capture.save'
    )
  return about
