"""Who wins: the malicious servers, or the client that checks.

  python -m giajax.verify.calibration.detection --out=FILE.md [--quick]
    [--data_dir=DIR] [--trained=DIR] [--seeds=10]

For each attack whose server alters something, with its adaptive variants, on
fresh networks and on those that `giajax train` left in --trained, writes what
one client receives and runs every check on it. A cell of the table is

  AUC / detected

the area under the ROC curve against honest weights of the same network, and
the share of crafted weights that the committed threshold flags, whose false
alarms are 1 % (`thresholds`). A check that a network has no layer for is –.
The rows of `nobody` are the honest weights themselves, and the share of
them that is flagged. The client is that of `giajax verify`: it knows the agreed
network, and tries that one. Between what it accepted last and what the server
alters lies one honest round, of 1, 5 or 20 steps by turns: a client that missed
more rounds has less from the checks of the change. Of an attack of several
rounds a check counts with its highest score in the first --rounds of them.
--quick takes two fresh networks and three seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
import pathlib
import shlex
import sys
import time
from typing import Any, NamedTuple

from absl import flags
import jax
import numpy as np

from giajax import threat
from giajax import trees
from giajax import types
from giajax.attacks import ATTACKS
from giajax.attacks import base as attacks
from giajax.clients import aggregate
from giajax.engine import build
from giajax.engine import exchange
from giajax.engine import experiment
from giajax.engine import provenance
from giajax.tasks import classification
from giajax.verify import base
from giajax.verify import checkup
from giajax.verify import VERIFIERS
from giajax.verify.calibration import honest_models

_FLAGS = honest_models.options(seeds=10)
flags.DEFINE_string(
  'out', '', 'Markdown; to the screen as well.', flag_values=_FLAGS
)
flags.DEFINE_bool('quick', False, 'Minutes on two cores.', flag_values=_FLAGS)
flags.DEFINE_integer(
  'rounds', 3, 'Of an attack, at most.', 1, flag_values=_FLAGS
)
flags.DEFINE_list(
  'attacks', None, 'Rows of the table; all if not given.', flag_values=_FLAGS
)


class Row(NamedTuple):
  """An attack as it is run, and on which of the networks."""

  attack: Mapping[str, Any]
  networks: tuple[str, ...]
  clients: int = 1  # whose aggregate it attacks
  batch: int = 4  # images of each
  public: int = 8  # images that the server has


_MODULE = 'giajax.verify.calibration.detection'
_ROUND = 1  # tells the draws of the honest round from others
_ANY = ('mlp', 'convnet', 'lenet_relu', 'resnet20')
_READERS = ('mlp', 'mlp_deep')
QUICK = ('mlp', 'convnet')


def _trap(strength: float) -> Row:
  attack = dict(name='trap_weights', strength=strength)
  return Row(attack, _READERS, batch=64, public=256)


# By the line's name; behind a colon, the form of the attack.
ROWS: dict[str, Row] = {
  'fishing': Row(dict(name='fishing'), ('convnet', 'resnet20')),
  'loki': Row(dict(name='loki', bins=64), _ANY, 2),
  'mkor': Row(dict(name='mkor'), _READERS),
  'robbing_the_fed': Row(dict(name='robbing_the_fed', bins=128), _ANY),
  'robbing_the_fed: order': Row(
    dict(name='robbing_the_fed', bins=128, hide='order'), _ANY
  ),
  'robbing_the_fed: sparse': Row(
    dict(name='robbing_the_fed', bins=128, form='sparse'), _ANY
  ),
  'robbing_the_fed: weights': Row(
    dict(name='robbing_the_fed', bins=128, form='sparse', hide='weights'), _ANY
  ),
  # A small batch comes back from agreed weights as well: the weakened ones are
  # for one that does not.
  'trap_weights: batch of 4': Row(dict(name='trap_weights'), _READERS),
  'trap_weights': _trap(1.0),
  'trap_weights: half strength': _trap(0.5),
  'trap_weights: tenth strength': _trap(0.1),
  'trap_weights: hundredth strength': _trap(0.01),
}
# Attacks whose server sends what was agreed: there is nothing to detect.
HONEST = frozenset(
  (
    'beyond_inferring',
    'dimitrov',
    'dlg',
    'estimate',
    'grad_inversion',
    'huang',
    'idlg',
    'inverting_gradients',
    'linear_layer',
    'modern',
    'multiscale',
    'partial_matching',
    'r_gap',
    'running',
    'sapag',
    'spear',
    'wei',
  )
)


def main(argv: Sequence[str]) -> int:
  """Writes the table."""
  wrong = honest_models.parse(_FLAGS, argv, {'attacks': ('row', ROWS)})
  if wrong:
    print(wrong, file=sys.stderr)
    return 2
  missing = unlisted(ATTACKS)
  if missing:
    print(
      f'Expected every attack in ROWS or HONEST; got {", ".join(missing)} in '
      'neither; add them to verify/calibration/detection.py',
      file=sys.stderr,
    )
    return 2
  began = time.perf_counter()
  names = _FLAGS.attacks or list(ROWS)
  images = build.dataset(honest_models.entry(_FLAGS.data_dir))
  seeds = 3 if _FLAGS.quick else _FLAGS.seeds
  lines, notes = [], []
  for model in _networks(images, seeds):
    quiet = list(
      honest_models.scores(
        model,
        probe=_FLAGS.probe,
        probes=_draws(model, seeds),
        names=list(VERIFIERS),
      )
    )
    for name in names:
      row = ROWS[name]
      if model.kind == 'fresh' and model.name not in row.networks:
        continue
      try:
        loud = list(detect(row, model, seeds, _FLAGS.rounds))
      except ValueError as error:
        if not str(error).startswith('Expected'):
          raise
        notes.append(f'{name} on {model.kind} {model.name}: {error}')
        continue
      lines.append((name, f'{model.kind} {model.name}', loud, quiet))
      print(f'# {name} on {model.kind} {model.name}', flush=True)
    jax.clear_caches()
  minutes = (time.perf_counter() - began) / 60
  text = page(lines, notes, minutes)
  print(text)
  if _FLAGS.out:
    pathlib.Path(_FLAGS.out).write_text(text)
  return 0


def unlisted(table: Mapping[str, Any]) -> list[str]:
  """Returns the attacks of a table which neither ROWS nor HONEST know."""
  known = HONEST | {row.attack['name'] for row in ROWS.values()}
  return sorted(set(table) - known)


def detect(
  row: Row, model: honest_models.Honest, seeds: int, count: int
) -> Iterator[dict[str, base.Verdict]]:
  """Yields the verdicts on what a server sends, by check.

  Args:
    row: the attack.
    model: whose weights, the last of them if trained, it starts from.
    seeds: of batches, and of weights if fresh.
    count: of rounds, at most.
  """
  known, images = None, model.dataset
  played = honest_models.one_round(model)
  for seed in range(seeds):
    setup = build.setup(build.resolve(_config(row, model, seed)))
    if setup.attack.craft is attacks.honest and setup.attack.on_net is None:
      raise ValueError(
        f'Expected a server that alters something; got {dict(row.attack)}; '
        'move it to HONEST'
      )
    if known is None:  # one compiled program for all seeds
      task = classification.classification(images.num_classes)
      known = base.view(setup.net, task)
    view = known._replace(accepted=setup.variables)
    rng = np.random.default_rng((seed, _ROUND))
    setup = _after(setup, played(setup.variables, rng, seed))
    batch = setup.cases.indices(setup.dataset, 0)
    free = np.setdiff1d(np.arange(images.size), batch)
    drawn = np.random.default_rng(seed).permutation(free)[: _FLAGS.probe]
    probe = images.take(drawn)
    several = min(count, setup.attack.num_rounds)
    sent = map(_received, exchange.messages(setup, 0, several))
    found = [checkup.check(view, q, probe, seed=seed).verdicts for q in sent]
    yield {
      name: max((v[name] for v in found), key=lambda v: (v.ran, v.score))
      for name in VERIFIERS
    }


def _after(
  setup: experiment.Setup, variables: types.Variables
) -> experiment.Setup:
  """Returns an experiment whose server has moved on to other weights."""
  message = attacks.put(setup.message, trees.named_leaves(variables.params))
  stats = trees.named_leaves(variables.stats)
  sent = message.variables
  sent = sent._replace(stats=trees.replaced(sent.stats, stats))
  return setup._replace(
    variables=variables, message=message._replace(variables=sent)
  )


def page(lines, notes: Sequence[str], minutes: float) -> str:
  """Returns the table as Markdown.

  Args:
    lines: (attack, network, verdicts by check of each crafted model, rows of
      `honest_models.scores`).
    notes: of what was not run.
    minutes: that it took.
  """
  head = ['attack', 'network', 'models', 'any', *VERIFIERS]
  rows = [head, ['-'] * len(head)]
  for network, quiet in {line[1]: line[3] for line in lines}.items():
    flagged = np.mean([bool(row['flagged']) for row in quiet])
    alarms = [_alarms(quiet, check) for check in VERIFIERS]
    rows.append(['nobody', network, str(len(quiet)), f'{flagged:.0%}', *alarms])
  for name, network, loud, quiet in lines:
    cells = [cell(loud, quiet, check) for check in VERIFIERS]
    flagged = np.mean(
      [any(v.flagged for v in found.values()) for found in loud]
    )
    rows.append([name, network, str(len(loud)), f'{flagged:.0%}', *cells])
  return '\n'.join(
    [
      f'`{shlex.join(["python", "-m", _MODULE, *sys.argv[1:]])}`, '
      f'{provenance.device()}, {minutes:.0f} minutes. AUC / detected at 1 % '
      'false alarms a check.',
      '',
      *(f'| {" | ".join(row)} |' for row in rows),
      '',
      *(f'- Not run: {note}' for note in notes),
      '',
    ]
  )


def _alarms(quiet: Sequence[Mapping[str, Any]], check: str) -> str:
  """Returns the share of honest models that a check flags, – if none ran."""
  ran = [row for row in quiet if check in row['scores']]
  if not ran:
    return '–'
  return f'{np.mean([check in row["flagged"] for row in ran]):.0%}'


def cell(
  loud: Sequence[Mapping[str, base.Verdict]],
  quiet: Sequence[Mapping[str, Any]],
  check: str,
) -> str:
  """Returns AUC and detection of one check, – where it has nothing to look at.

  Args:
    loud: verdicts on crafted models.
    quiet: rows of `honest_models.scores`.
    check: its name.
  """
  found = [v[check] for v in loud if v[check].ran]
  if not found:
    return '–'
  # What an honest network lacks, as an imprint layer, is 0 there.
  normal = [row['scores'].get(check, 0.0) for row in quiet]
  detected = np.mean([verdict.flagged for verdict in found])
  return f'{auc([v.score for v in found], normal):.2f} / {detected:.0%}'


def auc(high: Sequence[float], low: Sequence[float]) -> float:
  """Returns the chance that one of `high` exceeds one of `low`; ties half."""
  pairs = np.subtract.outer(np.asarray(high), np.asarray(low))
  return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def _networks(images, seeds: int):
  """Yields the networks, fresh ones first."""
  names = (
    QUICK
    if _FLAGS.quick
    else sorted({n for r in ROWS.values() for n in r.networks})
  )
  if _FLAGS.networks is not None:
    names = [n for n in names if n in _FLAGS.networks]
  yield from honest_models.fresh(images, names, seeds)
  if _FLAGS.trained and _FLAGS.data_dir and not _FLAGS.quick:
    yield from honest_models.trained(_FLAGS.trained, images)


def _draws(model: honest_models.Honest, seeds: int) -> int:
  """Returns draws of images of each honest model: as many scores in all."""
  return 1 if model.kind == 'fresh' else seeds


def _config(row, model, seed) -> dict[str, Any]:
  return {
    'seed': seed,
    'dataset': honest_models.entry(_FLAGS.data_dir),
    'cases': {
      'batch_size': row.batch * row.clients,
      'clients': row.clients,
    },
    'model': dict(model.entry),
    'weights': {'path': model.paths[-1]},
    'attack': dict(row.attack),
    'threat': {
      'level': None,
      'grants': sorted(set(threat.GRANTS) - {'target', 'labels'}),
      'proxy_images': row.public,
    },
    'run': {'lowering': 'lax'},
  }


def _received(message: types.ServerMessage) -> types.ServerMessage:
  """Returns what the first of the clients receives."""
  own = {name: leaf[0] for name, leaf in dict(message.each).items()}
  return aggregate.received(message, own)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
