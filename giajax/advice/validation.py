"""What a client that checks what it receives would have seen in an audit."""

from collections.abc import Mapping
import statistics
import time
from typing import Any

from giajax import types
from giajax.attacks import base as attacks
from giajax.engine import build
from giajax.engine import exchange
from giajax.models import inspect
from giajax.verify import base
from giajax.verify import checkup

_PROBE = 16  # the number of images that a client tries a model on


def validation(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what the checks of `giajax verify` say, for advice.json.

  The client has images of its own and no earlier model to compare with. It
  looks at what the first client of each case receives in the last round.

  Args:
    config: the resolved config, without a sweep.
  """
  setup = build.setup(config)
  images, net = setup.dataset, setup.net
  wrong = inspect.fault(net)
  if wrong:
    return {
      'reason': f'The checks read the layers of {net.spec.name}, {wrong}.'
    }
  if images.size < base.LEAST_PROBE:
    return {
      'reason': f'The checks take {base.LEAST_PROBE} images, and the data set '
      f'has {images.size}.'
    }
  size = min(_PROBE, images.size)
  task = setup.world.task
  probe = checkup.draw_probe(
    images, net, task, size=size, case=0, seed=setup.seed
  )
  view = base.view(net, task)
  # First, so that nothing is compiled while the others are timed.
  agreed = checkup.check(view, types.ServerMessage(setup.variables), probe)
  objections, seconds = [], []
  last = setup.attack.num_rounds - 1
  for case in range(setup.cases.count):
    message = types.ServerMessage(exchange.received(setup, case, last, 0))
    began = time.perf_counter()
    objections.append(_objections(checkup.check(view, message, probe)))
    seconds.append(time.perf_counter() - began)
  return {
    'honest': attacks.is_honest(setup.attack),
    'checks': len(agreed.ran),
    'models': len(objections),
    'refused': sum(map(bool, objections)),
    'evidence': objections[0],
    'agreed': _objections(agreed),
    'seconds': statistics.median(seconds),
  }


def _objections(result: checkup.Checkup) -> dict[str, str]:
  return {name: result.verdicts[name].evidence for name in result.flagged}
