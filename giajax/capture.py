"""Captures: what a server sent to a client and what came back, in one file.

A capture is a .safetensors file. Its tensors are

  sent/NAME      the weights that the client started from
  received/NAME  what came back
  truth/x, truth/y   optional: the client's images and labels

with the names of the state dict, or arr_0, arr_1, ... in its order; and its
metadata are

  giajax_capture  the version of this format, '1'
  about           JSON: form ('weights', 'delta' or 'gradient'), and what is
                  known of client, examples, input_shape, num_classes, round,
                  node

`giajax audit --capture=FILE` reads it, and so do `weights.path`,
`source.received` and `source.truth` of a config. A server writes captures by
`save`, or by `watch` around a strategy of Flower:

  strategy = giajax.capture.watch(FedAvg(...), 'captures')

This module needs numpy and safetensors alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import io
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from safetensors import numpy as safetensors

from giajax import archives
from giajax import files

VERSION = '1'
_FORMAT, _ABOUT = 'giajax_capture', 'about'
_NPY = 'numpy.ndarray'  # what Flower calls arrays as numpy writes them
PARTS = ('sent', 'received', 'truth')
FORMS = ('weights', 'delta', 'gradient')

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
    truth: the client's images [B, H, W, C] in [0, 1] and labels [B], or other
      targets, in a test of one's own.
    **about: what JSON can say and is known of the client: `client` (a row of
      `giajax --list` and its arguments), `examples`, `input_shape`,
      `num_classes`, `task`, `low`, `high`, `round`, `node`.

  Raises:
    ValueError: another ending, or nothing that was sent or received.
  """
  path = pathlib.Path(path)
  if path.suffix != '.safetensors':
    raise ValueError(
      'Expected a name that ends in .safetensors for a capture; got '
      f'{str(path)!r}; rename it'
    )
  if form not in FORMS:
    raise ValueError(
      f'Expected form of {", ".join(FORMS)}; got form={form!r}; correct it'
    )
  images = {} if truth is None else truth_of(truth)
  # An iterator has its values once only.
  parts = {'sent': _named(sent), 'received': _named(received)}
  empty = [part for part, values in parts.items() if not values]
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
  try:
    text = json.dumps({'form': form, **about}, default=_plain)
  except TypeError as error:
    raise ValueError(
      f'Expected what JSON can say about a capture; got {sorted(about)}, where '
      f'{error}; convert it'
    ) from error
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.written(path) as made:
      safetensors.save_file(tensors, made, {_FORMAT: VERSION, _ABOUT: text})
  except OSError as error:
    raise ValueError(
      f'Expected a place that can be written; got {str(path)!r} '
      f'({error.strerror}); choose another'
    ) from error
  return path


def truth_of(truth: Sequence[Any]) -> dict[str, Any]:
  """Returns the tensors of images and targets: 'x' and 'y', or 'y.NAME'.

  Args:
    truth: the images, and their targets: an array, or a dict of arrays.
  """
  x, y = truth
  named = y.items() if isinstance(y, Mapping) else ()
  parts = {f'y.{name}': part for name, part in named} or {'y': y}
  return {'x': x, **parts}


def _plain(value: Any) -> Any:
  """Returns a number of numpy's as Python's own."""
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f'{type(value).__name__} is no JSON')


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

  What a client was sent is read from the instructions that the strategy made
  for it, so that a strategy may send each client something else. Watch the
  outermost strategy where several are nested: it sees what clients sent.

  Args:
    strategy: a strategy of `flwr.serverapp` (messages) or of `flwr.server`
      (parameters). Its methods are replaced on this object.
    folder: where captures go: roundR-clientC.safetensors, with the replies of
      a round in the order in which the strategy gets them.
    names: the names of the state dict in order, where lists of arrays are
      exchanged.
    **about: as for `save`. What is known of a reply is added: `examples`,
      `round`, and `node`, Flower's name of the client.

  Returns:
    The strategy. Its methods raise ValueError for a message without exactly one
    ArrayRecord, another number of names, and a reply that nobody asked for.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  api = _MESSAGES if hasattr(strategy, 'configure_train') else _PARAMETERS
  configure = getattr(strategy, api.configure)
  aggregate = getattr(strategy, api.aggregate)
  sent: dict[str, Tensors] = {}  # by node, in this round

  def configured(server_round, *args, **kwargs):
    asks = list(configure(server_round, *args, **kwargs) or ())
    sent.clear()
    # Most strategies send one object to all. It is kept, and so is its id.
    read: dict[int, tuple[Any, Tensors]] = {}
    for ask in asks:
      node, arrays = api.sent(ask)
      if id(arrays) not in read:
        read[id(arrays)] = arrays, _tensors(arrays, names)
      sent[node] = read[id(arrays)][1]
    return asks

  def aggregated(server_round, *args, **kwargs):
    replies = list(args[0] if args else kwargs.pop(api.replies))
    for number, reply in enumerate(replies):
      found = api.received(reply)
      if found is None:
        continue
      node, arrays, examples = found
      if node not in sent:
        raise ValueError(
          f'Expected replies of clients that were asked in round '
          f'{server_round}; got one of node={node!r}; write its capture by '
          'giajax.capture.save'
        )
      own: Any = {'examples': examples, 'round': server_round, 'node': node}
      path = folder / f'round{server_round}-client{number}.safetensors'
      received = _tensors(arrays, names)
      save(path, sent[node], received, **{**own, **about})
    return aggregate(server_round, replies, *args[1:], **kwargs)

  setattr(strategy, api.configure, configured)
  setattr(strategy, api.aggregate, aggregated)
  return strategy


class _Api(NamedTuple):
  """What one of Flower's kinds of strategies calls what."""

  configure: str  # the method that makes instructions
  aggregate: str  # the method that gets replies
  replies: str  # the name of its argument
  sent: Callable[[Any], tuple[str, Any]]  # of an instruction: node, arrays
  # Of a reply: node, arrays and the number of examples; None for a failure.
  received: Callable[[Any], tuple[str, Any, int | None] | None]


def _message_sent(message: Any) -> tuple[str, Any]:
  return str(message.metadata.dst_node_id), _record(message)


def _message_received(reply: Any) -> tuple[str, Any, int | None] | None:
  if reply.has_error():
    return None
  examples = [
    metrics['num-examples']
    for metrics in reply.content.metric_records.values()
    if 'num-examples' in metrics
  ]
  count = int(examples[0]) if examples else None
  return str(reply.metadata.src_node_id), _record(reply), count


def _record(message: Any) -> Any:
  """Returns the only ArrayRecord of a message."""
  records = list(message.content.array_records.values())
  if len(records) != 1:
    raise ValueError(
      f'Expected one ArrayRecord in each message; got {len(records)}; write '
      'captures by giajax.capture.save'
    )
  return records[0]


def _fit_sent(instruction: Any) -> tuple[str, Any]:
  client, fit = instruction
  return str(client.cid), fit.parameters


def _fit_received(result: Any) -> tuple[str, Any, int | None]:
  client, fit = result
  return str(client.cid), fit.parameters, int(fit.num_examples)


_MESSAGES = _Api(
  'configure_train',
  'aggregate_train',
  'replies',
  _message_sent,
  _message_received,
)
_PARAMETERS = _Api(
  'configure_fit', 'aggregate_fit', 'results', _fit_sent, _fit_received
)


def _tensors(arrays: Any, names: Sequence[str] | None) -> Tensors:
  """Returns copies of the tensors of a record or of parameters of Flower's.

  What is sent may be written to before replies come.
  """
  if isinstance(arrays, Mapping):  # an ArrayRecord
    tensors = {name: np.array(value.numpy()) for name, value in arrays.items()}
    if names is None or [*tensors] != [str(i) for i in range(len(tensors))]:
      return tensors
    values = [*tensors.values()]  # a record that was made of a list
  elif arrays.tensor_type != _NPY:
    raise ValueError(
      f'Expected parameters of the type {_NPY!r}; got {arrays.tensor_type!r}; '
      'write captures by giajax.capture.save'
    )
  else:
    values = [
      np.load(io.BytesIO(content), allow_pickle=False)
      for content in arrays.tensors
    ]
  if names is None:
    return values
  if len(names) != len(values):
    raise ValueError(
      f'Expected {len(values)} names for the arrays that are exchanged; got '
      f'{len(names)}; pass list(model.state_dict())'
    )
  return dict(zip(names, values))


def _named(values: Tensors) -> dict[str, Any]:
  if not isinstance(values, Iterable) or isinstance(values, str | bytes):
    raise ValueError(
      f'Expected a state dict or a list of arrays; got a '
      f'{type(values).__name__}; pass model.state_dict()'
    )
  if isinstance(values, Mapping):
    return dict(values)
  return {f'arr_{i}': value for i, value in enumerate(values)}


def _array(value: Any) -> np.ndarray:
  """Returns an array of what may be a tensor of torch."""
  if hasattr(value, 'detach'):
    value = value.detach().cpu()
    # Numpy has no bfloat16, all of whose values are in float32.
    value = (value.float() if 'bfloat16' in str(value.dtype) else value).numpy()
  array = np.asarray(value)
  if array.dtype.kind not in 'biuf' and array.dtype.name != 'bfloat16':
    raise ValueError(
      f'Expected arrays of numbers in a capture; got one of {array.dtype}; '
      'pass tensors only'
    )
  return np.ascontiguousarray(array).reshape(array.shape)


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
