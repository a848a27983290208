"""Values as they are written on a command line."""

import ast
from collections.abc import Mapping, Sequence
import contextlib
import types
import typing
from typing import Any

_SEQUENCES = {tuple, list, Sequence}
# What Python raises for a text that is no literal, or a dict that is none.
_NO_LITERAL = (
  *(SyntaxError, TypeError, ValueError, RecursionError, MemoryError),
)
# Kinds that are written as Python writes them; a string is not.
_LITERALS = {bool, int, float, dict, Mapping, Any, *_SEQUENCES}


def value(text: str, annotation: Any) -> Any:
  """Returns the value that a text stands for.

  Where only a string fits, the text is that string. Everywhere else it is read
  as Python reads it, and what Python cannot read remains a string. The code
  that uses the value then refuses it by name.

  Args:
    text: a text such as '0.1', 'True', 'None', 'cifar', '64,32' or '(64, 32)'.
    annotation: the type that is wanted: bool, int, float, str, None, a tuple or
      dict, a union of them, or Any.
  """
  kinds = _kinds(annotation)
  if text == 'None' and type(None) in kinds:
    return None
  if not kinds & _LITERALS:
    return text
  if bool in kinds and text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  literal = _literal(text)
  if float in kinds and int not in kinds and type(literal) is int:
    with contextlib.suppress(OverflowError):
      return float(literal)
  if type(literal) in kinds:
    return literal
  if kinds & _SEQUENCES and not isinstance(literal, tuple | list):
    parts = text.split(',') if isinstance(literal, str) else [text]
    return tuple(_literal(part.strip()) for part in parts if part.strip())
  return literal


def keyword_arguments(text: str, flag: str) -> dict[str, Any]:
  """Returns the keyword arguments in a text; bare words are strings.

  Args:
    text: a text such as 'num_classes=10, stem=cifar'.
    flag: where it comes from, for the message.

  Raises:
    ValueError: the text holds something else.
  """
  try:
    call = ast.parse(f'f({text})', mode='eval').body
    if (
      not isinstance(call, ast.Call)
      or not isinstance(call.func, ast.Name)
      or call.args
    ):
      raise ValueError('no keyword arguments')
    arguments = {str(k.arg): _node(k.value) for k in call.keywords}
    if len(arguments) < len(call.keywords) or arguments.keys() & {
      'None',
      'name',
    }:
      raise ValueError('a keyword twice, or none')
  except _NO_LITERAL as error:
    raise ValueError(
      f'Expected key=value, key=value; got --{flag}={text}; correct it'
    ) from error
  return arguments


def row(text: str, flag: str) -> dict[str, Any]:
  """Returns the entry of a config that 'NAME,key=value' describes.

  Args:
    text: a name, and perhaps arguments behind it.
    flag: where it comes from, for the message.

  Raises:
    ValueError: the text holds something else.
  """
  name, _, rest = text.partition(',')
  return {'name': name.strip(), **keyword_arguments(rest, flag)}


def shape(words: Sequence[str], flag: str) -> tuple[int, ...]:
  """Returns the (H, W, C) of an image, or the (F,) of a row of a table.

  Args:
    words: three whole numbers as text, or one.
    flag: where they come from, for the message.

  Raises:
    ValueError: other words, or a number below 1.
  """
  numbers = [int(w) for w in words if w.strip().isdecimal()]
  if len(words) not in (1, 3) or len(numbers) < len(words) or min(numbers) < 1:
    raise ValueError(
      f'Expected --{flag}=H,W,C or F of whole numbers; got --{flag}='
      f'{",".join(words)}; write, for instance, 32,32,3'
    )
  return tuple(numbers)


def numbers(words: Sequence[str], flag: str) -> list[float]:
  """Returns numbers that are written on a command line.

  Args:
    words: numbers as text.
    flag: where they come from, for the message.

  Raises:
    ValueError: a word that is no number.
  """
  values = [_literal(word.strip()) for word in words]
  wrong = [w for w, v in zip(words, values) if type(v) not in (int, float)]
  if wrong:
    raise ValueError(
      f'Expected numbers for --{flag}; got {wrong[0]!r}; put commas between'
    )
  return [float(value) for value in values]


def pairs(text: str, flag: str) -> dict[str, str]:
  """Returns the mapping that a text such as 'old=new,other=' describes.

  Args:
    text: pairs, separated by commas.
    flag: where it comes from, for the message.

  Raises:
    ValueError: a part is not a pair.
  """
  result = {}
  for pair in filter(None, text.split(',')):
    old, equals, new = pair.partition('=')
    if not old or not equals:
      raise ValueError(
        f'Expected pairs old=new; got --{flag}={text} with {pair!r}; correct it'
      )
    result[old.strip()] = new.strip()
  return result


def _kinds(annotation: Any) -> set[Any]:
  union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
  members = typing.get_args(annotation) if union else (annotation,)
  return {typing.get_origin(member) or member for member in members}


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except _NO_LITERAL:
    return text


def _node(node: ast.expr) -> Any:
  return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
