"""Updates that cover a part of the parameters.

A frozen backbone, the last layers, adapters alone: the client trains, and
sends, `params`; the rest travels in `frozen`. A BatchNorm whose parameters are
all frozen stays in inference mode, as in recipes for fine-tuning.
"""

from collections.abc import Sequence
import fnmatch

from giajax import trees
from giajax import types
from giajax.models import base
from giajax.models import inspect


def subset(
  net: base.Net, include: Sequence[str] = ('*',), freeze: Sequence[str] = ()
) -> base.Net:
  """Returns a network whose clients train only the named parameters.

  Args:
    net: the network; what its clients do not train stays untrained.
    include: shell patterns of dotted parameter names, such as 'fc.*',
      'layer4.*' or '*.lora_?.*'.
    freeze: patterns of the parameters that are not trained although `include`
      names them, such as '*bn*'.

  Raises:
    ValueError: a pattern names no parameter, or nothing is left to train.
  """
  names = inspect.leaf_names(net)
  for pattern in (*include, *freeze):
    if not fnmatch.filter(names, pattern):
      raise ValueError(
        f'Expected patterns that name parameters of {net.spec.name}; got '
        f'{pattern!r}; its layers are {_layers(names)}'
      )
  trained = _matching(names, include) - _matching(names, freeze)
  if not trained:
    raise ValueError(
      f'Expected something to train; got include={list(include)}, '
      f'freeze={list(freeze)}; freeze less'
    )
  if trained == names:
    return net

  def init(key: types.Array) -> types.Variables:
    variables = net.init(key)
    leaves = trees.named_leaves(base.whole(variables))
    parts = [
      trees.nested({n: v for n, v in leaves.items() if (n in trained) == part})
      for part in (True, False)
    ]
    return variables._replace(params=parts[0], frozen=parts[1])

  return net._replace(init=init, edit=None)


def _matching(names, patterns):
  return {n for p in patterns for n in fnmatch.filter(names, p)}


def _layers(names):
  tops = sorted({name.partition('.')[0] for name in names})
  return ', '.join(tops)
