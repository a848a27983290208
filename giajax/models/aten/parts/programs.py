"""Programs: what torch.export makes of a module, without torch.

A module is exported for one mode and one shape of images, so that nothing in it
depends on sizes, and decomposed down to the rows of `aten.OPERATORS`. Two
things that torch loses on the way are kept: `detach` and what happens under
`no_grad` become an operator of their own that stops derivatives.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import numpy as np

GETITEM = 'getitem'
_STOP = 'giajax::stop_gradient'
# Arguments that say where numbers are stored, or how soon.
_STORAGE = frozenset(
  ('device', 'layout', 'memory_format', 'non_blocking', 'pin_memory')
)


class Ref(NamedTuple):
  """The result of a step, or an input, by name."""

  name: str


class Step(NamedTuple):
  """One operator.

  Attributes:
    name: of its result.
    target: a row of `aten.OPERATORS`, or `GETITEM`.
    args: its arguments, with a Ref for each tensor.
    kwargs: those that are given by name.
    line: the line of the module that it came from.
  """

  name: str
  target: str
  args: tuple[Any, ...]
  kwargs: dict[str, Any]
  line: str


class Program(NamedTuple):
  """One forward pass of a module.

  Attributes:
    images: the name of the input.
    parameters: torch's names of parameters, by the names of inputs.
    buffers: torch's names of buffers, by the names of inputs.
    constants: arrays, by the names of inputs.
    steps: the operators that the results need, in sequence.
    logits: the name of the result.
    moved: the results that replace buffers, by torch's names of these.
    counters: buffers of integers that the pass moves.
  """

  images: str
  parameters: dict[str, str]
  buffers: dict[str, str]
  constants: dict[str, np.ndarray]
  steps: list[Step]
  logits: str
  moved: dict[str, str]
  counters: tuple[str, ...]


def of_module(
  module: Any, images: Any, kept: Collection[str]
) -> tuple[Program, dict[str, list[str]]]:
  """Returns a module's program, and the operators that are not kept.

  Args:
    module: a torch module, in the mode of the pass.
    images: the tensor that it is exported with.
    kept: the operators that a program may have.

  Returns:
    The program, and the lines of the module by the names of other operators.
  """
  import torch  # pyrefly: ignore

  exported = torch.export.export(module, (images,), strict=False)
  _mark(exported)
  table = torch.export.default_decompositions()
  for operator in [op for op in table if str(op) in kept]:
    del table[operator]
  exported = exported.run_decompositions(table)
  program = _program(exported)
  unknown: dict[str, list[str]] = {}
  for step in program.steps:
    if step.target not in kept and step.target != GETITEM:
      unknown.setdefault(step.target, []).append(step.line)
  return program, unknown


def _program(exported: Any) -> Program:
  signature = exported.graph_signature
  inputs: dict[str, dict[str, str]] = {}
  for spec in signature.input_specs:
    inputs.setdefault(spec.kind.name, {})[spec.arg.name] = spec.target
  found = {**exported.state_dict, **exported.constants}
  outputs = [
    (s.kind.name, s.arg.name, s.target) for s in signature.output_specs
  ]
  moved = {t: name for kind, name, t in outputs if kind == 'BUFFER_MUTATION'}
  floating = {t: n for t, n in moved.items() if found[t].is_floating_point()}
  (logits,) = (name for kind, name, _ in outputs if kind == 'USER_OUTPUT')
  steps = _needed(
    [_step(n) for n in exported.graph.nodes if n.op == 'call_function'],
    {logits, *floating.values()},
  )
  read = {ref for step in steps for ref in refs((step.args, step.kwargs))}
  return Program(
    images=next(iter(inputs['USER_INPUT'])),
    parameters=inputs.get('PARAMETER', {}),
    buffers={
      name: target
      for name, target in inputs.get('BUFFER', {}).items()
      if name in read
    },
    constants={
      name: found[target].detach().numpy()
      for name, target in inputs.get('CONSTANT_TENSOR', {}).items()
      if name in read
    },
    steps=steps,
    logits=logits,
    moved=floating,
    counters=tuple(moved.keys() - floating.keys()),
  )


def _needed(steps: Sequence[Step], names: set[str]) -> list[Step]:
  """Returns the steps that some results need."""
  kept = []
  for step in reversed(steps):
    if step.name in names:
      kept.append(step)
      names.update(refs((step.args, step.kwargs)))
  return kept[::-1]


def refs(tree: Any) -> Iterator[str]:
  """Yields the names that arguments refer to."""
  if isinstance(tree, Ref):
    yield tree.name
  elif isinstance(tree, list | tuple):
    for part in tree:
      yield from refs(part)
  elif isinstance(tree, Mapping):
    yield from refs([*tree.values()])


def _step(node: Any) -> Step:
  kwargs = {k: v for k, v in node.kwargs.items() if k not in _STORAGE}
  args = [*node.args]
  schema = getattr(node.target, '_schema', None)
  if schema is not None:  # torch may give any argument by name
    for argument in schema.arguments[len(args) :]:
      if argument.kwarg_only or not kwargs.keys() - _only(schema):
        break
      default = argument.default_value if argument.has_default_value() else None
      args.append(kwargs.pop(argument.name, default))
  name = getattr(node.target, '__name__', '')
  target = GETITEM if name == GETITEM else str(node.target)
  return Step(
    node.name, target, _plain(tuple(args)), _plain(kwargs), _line(node)
  )


def _only(schema: Any) -> set[str]:
  return {a.name for a in schema.arguments if a.kwarg_only}


def _plain(tree: Any) -> Any:
  """Returns arguments without torch's types."""
  if isinstance(tree, list | tuple):
    parts = [_plain(part) for part in tree]
    return tuple(parts) if isinstance(tree, tuple) else parts
  if isinstance(tree, dict):
    return {name: _plain(part) for name, part in tree.items()}
  if hasattr(tree, 'users'):  # a node
    return Ref(tree.name)
  kind = type(tree)
  if kind.__module__ == 'torch' and kind.__name__ == 'dtype':
    return str(tree).removeprefix('torch.')
  return tree if kind.__module__ == 'builtins' else None


def _line(node: Any) -> str:
  """Returns the innermost line of a node's stack that is not torch's own."""
  lines = [part.strip() for part in (node.stack_trace or '').splitlines()]
  places = [i for i, line in enumerate(lines) if line.startswith('File "')]
  own = [i for i in places if '/site-packages/torch/' not in lines[i]] or places
  if not own:
    return 'an unknown line'
  at = own[-1]
  _, path, rest = lines[at].split('"')
  number = rest.split('line ')[1].split(',')[0]
  code = lines[at + 1] if at + 1 < len(lines) and at + 1 not in places else ''
  return f'{path}:{number}: {code}'.removesuffix(': ')


def _mark(exported: Any) -> None:
  """Puts an operator where derivatives end, which no decomposition removes.

  torch's decomposition turns `detach` into `alias`, and the body of `no_grad`
  into what stands around it.
  """
  stop, graph = _stop_gradient(), exported.graph
  parameters = exported.graph_signature.inputs_to_parameters
  for node in list(graph.nodes):
    name = str(node.target)
    if name in ('aten.detach.default', 'aten.detach_.default'):
      source = node.args[0]
      if source.op == 'placeholder' and source.name not in parameters:
        continue  # of no derivative, and perhaps to be written to
      with graph.inserting_before(node):
        cut = graph.call_function(stop, (source,))
      cut.meta = dict(source.meta)
      node.replace_input_with(source, cut)
    elif name == 'wrap_with_set_grad_enabled' and node.args[0] is False:
      for part in list(node.users):
        with graph.inserting_after(part):
          cut = graph.call_function(stop, (part,))
        cut.meta = dict(part.meta)
        part.replace_all_uses_with(cut, lambda user, cut=cut: user is not cut)
  exported.graph_module.recompile()


@functools.cache
def _stop_gradient() -> Any:
  """Declares to torch an operator that returns a copy of its argument."""
  import torch  # pyrefly: ignore

  def stop_gradient(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

  operator = torch.library.custom_op(_STOP, stop_gradient, mutates_args=())
  operator.register_fake(stop_gradient)
  return torch.ops.giajax.stop_gradient.default
