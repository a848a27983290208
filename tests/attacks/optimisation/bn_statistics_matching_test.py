"""Tests of what the rows of bn_statistics_matching know and weigh."""

import pytest

from giajax import world as worlds
from giajax.attacks import ATTACKS
from giajax.clients import fedsgd
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.priors import bn_statistics
from giajax.tasks import classification

TASK = classification.classification(3)
NET = resnet.resnet((4, 4, 3), 3, blocks=(1,), width=0.05)
ROWS = {'huang': 'after', 'running': 'running', 'estimate': 'estimate'}


def world(net=NET):
  return worlds.World(
    net, TASK, fedsgd.fedsgd(net, TASK, train_mode=True), batch_size=2
  )


@pytest.mark.parametrize(('row', 'source'), ROWS.items())
def test_a_row_needs_what_its_statistics_do(row, source):
  attack = ATTACKS[row](world())
  plain = ATTACKS['inverting_gradients'](world())
  assert attack.needs == plain.needs | bn_statistics.SOURCES[source]


def test_defaults_are_the_papers():
  attack = ATTACKS['running'](world())
  assert attack.num_steps == 10_000
  assert attack.hparams == {
    'learning_rate': 0.1,
    'total_variation': 0.052,
    'bn_statistics': 1.6e-4,
  }


@pytest.mark.parametrize('row', ROWS)
def test_networks_without_normalisation_are_refused(row):
  with pytest.raises(ValueError, match=r'^Expected a network with .* layers'):
    ATTACKS[row](world(mlp.mlp((4, 4, 3), 3)))
