"""Checks a model before it is trained.

  giajax verify --config=NAME --received=FILE [--accepted=FILE] [--json]
    [--probe=16] [--case=0] [--seed=N] [--point=N] [--learning_rate=R]
    [--only=CHECK,CHECK] [--config.model.name=...]

The config says which network the clients agreed to train, and from which data
set the client has images of its own, --probe of which are drawn to try the
model on; what it says of batches, of an attack, and its weights, are not looked
at. The seed, of these images and of the units that checks look at, is a new one
each time, so that no server can prepare for it; it is printed, and --seed
repeats a run. FILE is an npz or .safetensors with torch's names and layouts, as
`giajax train` and `giajax craft` write it, or the folder of an Orbax checkpoint
of {'params': ..., 'stats': ...} with ours. Nothing is unpickled. --accepted
are the weights that were accepted last, and --learning_rate the rate times the
local steps of a round.

The network that is tried is the agreed one: of weights with more layers, the
checks that need gradients look at those that were agreed on.

Exit code 0: no check has an objection. 1: at least one has, and says in words
which. 2: what was received, or the probe, cannot be used, or none of the checks
has anything to look at. No objection does not mean that the updates of this
model give nothing away. In JSON, a score that is not finite is null.
"""

from collections.abc import Mapping, Sequence
import secrets
from typing import Any

import jax

from giajax import registry
from giajax import types
from giajax.commands import configs
from giajax.commands import flags
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import received as received_weights
from giajax.engine import sweep
from giajax.verify import base
from giajax.verify import checkup
from giajax.verify import VERIFIERS

USAGE = 'giajax verify --config=NAME --received=FILE'
FLAGS = (
  flags.CONFIG,
  flags.Flag('received', 'The weights that the server sent.'),
  flags.Flag('accepted', 'The weights that the client accepted last.'),
  flags.Flag(
    'only', 'The checks to run, separated by commas; all if empty.', [], list
  ),
  flags.Flag('probe', 'Images that the model is tried on.', 16, int),
  flags.Flag('case', 'Which draw of these images, from 0.', 0, int, 0),
  flags.Flag(
    'seed', 'The seed of all draws; a new one if empty.', None, int, 0
  ),
  flags.POINT,
  flags.Flag(
    'learning_rate',
    'The learning rate times the local steps of a round.',
    None,
    float,
  ),
  flags.Flag('json', 'Print JSON.', False, bool),
)


def run(arguments: flags.Arguments) -> int:
  """Checks a model and prints what the checks say.

  Returns:
    The exit code: 0 if no check objects, 1 if one does.
  """
  values = arguments.values
  for name in values.only:
    registry.lookup(VERIFIERS, name, 'check')
  config = configs.load(arguments)
  resolved = dict(sweep.only(config, values.point).config)
  found = verify_config(
    resolved,
    values.received,
    accepted=values.accepted or None,
    count=values.probe,
    case=values.case,
    seed=secrets.randbits(31) if values.seed is None else values.seed,
    learning_rate=values.learning_rate,
    only=values.only or list(VERIFIERS),
  )
  say = checkup.to_json if values.json else checkup.words
  print(say(found, values.received))
  return 1 if found.flagged else 0


def verify_config(
  resolved: Mapping[str, Any],
  received: str,
  *,
  accepted: str | None = None,
  seed: int,
  count: int = 16,
  case: int = 0,
  learning_rate: float | None = None,
  only: Sequence[str] = tuple(VERIFIERS),
) -> checkup.Checkup:
  """Runs checks on a file of weights.

  Args:
    resolved: a config without sweep, of the agreed model and the probe.
    received: path of the weights, see above.
    accepted: likewise, of those that were accepted last.
    seed: of the probe and of the checks' draws.
    count: images of the probe.
    case: which draw of them.
    learning_rate: rate times local steps of a round, if known.
    only: names in `VERIFIERS`.

  Raises:
    ValueError: weights or images that cannot be used, or checks of which none
      has anything to look at.
  """
  made = build.system(resolved, resolved['cases']['batch_size'])
  own = {'batch_size': count, 'clients': 1, 'rule': 'random', 'given': None}
  probing = {'seed': seed, 'cases': {**resolved['cases'], **own}}
  probe = exchange.item(made, probing, case, False).batch
  base.check_probe(probe, made.net)
  message = types.ServerMessage(received_weights.read(received, made.net))
  before = None
  if accepted:
    before = base.taken(
      received_weights.read(accepted, made.net),
      jax.eval_shape(made.net.init, jax.random.key(0)),
    )
    if before is None:
      raise ValueError(
        f'Expected accepted weights of {made.net.spec.name}; got '
        f'--accepted={accepted} of another network; name the last model that '
        'was accepted'
      )
  view = base.view(
    made.net, made.task, accepted=before, learning_rate=learning_rate
  )
  found = checkup.check(view, message, probe, only=only, seed=seed)
  if not found.ran:
    silent = {n: v.evidence.rstrip('.') for n, v in found.verdicts.items()}
    raise ValueError(
      'Expected checks that have something to look at; got '
      f'{", ".join(f"{n} ({why})" for n, why in silent.items())}; choose others'
    )
  return found
