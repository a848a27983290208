"""Weights that were received, as a client reads and checks them."""

from collections.abc import Sequence
import secrets

from giajax import archives
from giajax import paths
from giajax import require
from giajax import trees
from giajax import types
from giajax.engine import checkpoint
from giajax.engine import experiment
from giajax.models import base as models
from giajax.models import convert
from giajax.models import inspect
from giajax.verify import base
from giajax.verify import checkup
from giajax.verify import VERIFIERS
from giajax.verify.parts import weights


def read(path: str, net: models.Net) -> types.Variables:
  """Returns the variables in a file, whether they fit a network or not.

  Args:
    path: an npz file, a .safetensors file, or the folder of an Orbax
      checkpoint.
    net: the agreed network, whose names and layouts are tried first.

  Returns:
    Leaves in float32, or in float64 where JAX is set to it.

  Raises:
    ValueError: the path is not a whole file of finite float32 arrays.
  """
  folder = paths.expanded(path, 'received')
  if not folder.is_dir():
    return trees.widened(convert.as_found(archives.read(folder), net))
  leaves = checkpoint.sections(folder, repr(path))
  every = {f'{s}.{n}': a for s, part in leaves.items() for n, a in part.items()}
  convert.check_numbers(every, 'var')
  return trees.widened(convert.variables_of(leaves))


def check(
  system: experiment.System,
  received: str,
  *,
  accepted: str = '',
  seed: int | None = None,
  probe: int = 16,
  case: int = 0,
  learning_rate: float | None = None,
  only: Sequence[str] = (),
) -> checkup.Checkup:
  """Runs a client's checks on a file of weights.

  Args:
    system: the agreed network, its loss, and the client's images.
    received: the path of the weights, as `read` takes it.
    accepted: the path of the weights that the client accepted last; '' for
      none.
    seed: the seed of the probe and of the checks' draws; None for a new one,
      for which no server can prepare.
    probe: the number of images that the model is tried on.
    case: the number of the draw of images, at least 0.
    learning_rate: the learning rate times the local steps of a round, if known.
    only: names in `VERIFIERS`; all of them if empty.

  Raises:
    ValueError: a check is unknown, the weights or images cannot be used, or no
      check has anything to look at.
  """
  net, names = system.net, list(only) or list(VERIFIERS)
  seed = secrets.randbits(31) if seed is None else seed
  require.whole(seed, 'seed', least=0)
  require.whole(case, 'case', least=0)
  require.whole(probe, 'probe')
  own_images = checkup.draw_probe(
    system.dataset, net, system.task, size=probe, case=case, seed=seed
  )
  message = types.ServerMessage(read(received, net))
  view = base.view(
    net,
    system.task,
    accepted=_accepted(accepted, net) if accepted else None,
    learning_rate=learning_rate,
  )
  result = checkup.check(view, message, own_images, only=names, seed=seed)
  if not result.ran:
    reasons = ', '.join(
      f'{name} ({verdict.evidence.rstrip(".")})'
      for name, verdict in result.verdicts.items()
    )
    raise ValueError(
      f'Expected checks that have something to look at; got {reasons}; choose '
      'others'
    )
  return result


def _accepted(path: str, net: models.Net) -> types.Variables:
  """Returns the weights that were accepted last, of the agreed network."""
  variables = weights.select(read(path, net), inspect.abstract_variables(net))
  if variables is None:
    raise ValueError(
      f'Expected accepted weights of {net.spec.name}; got --accepted={path} of '
      'another network; name the last model that was accepted'
    )
  return variables
