"""Tests on updates that a real server received, of a network of torch."""

import jax
import numpy as np
import pytest

from giajax.battery import audit
from giajax.engine import build

pytest.importorskip('torch', reason='needs torch: giajax[peers]')
_FORMS = {
  'npz': ('global.npz', 'received.npz'),
  'pt': ('global.pt', 'received.pt'),
  'safetensors': ('global.safetensors', 'received.safetensors'),
  'list': ('global.npz', 'ndarrays.npz'),
  'list, and names that are sorted': ('global.safetensors', 'ndarrays.npz'),
}


def _config(folder, sent, received, images, **changes):
  config = audit.config_of(
    model={
      'name': f'{folder.parent / "our_net.py"}:OurNet',
      'normalisation': 'imagenet',
    },
    sent=str(folder / sent),
    received=str(folder / received),
    truth=str(folder / 'truth.npz'),
    input_shape=(32, 32, 3),
    num_classes=10,
    client={
      'name': 'fedavg',
      'batch_size': images,
      'learning_rate': 0.1,
      'train_mode': True,
      **changes,
    },
  )
  rule = 'idlg' if images == 1 else 'bias_corrected'
  return build.resolve({**config, 'labels': rule})


@pytest.mark.parametrize('images', [1, 4])
def test_forms_are_one_update(shared_data, images):
  folder = shared_data / 'captures' / f'cap_b{images}_e1'
  deltas = []
  for sent, received in _FORMS.values():
    setup = build.setup(_config(folder, sent, received, images))
    assert setup.source.facts['form'] == 'weights'
    deltas.append(jax.tree.leaves(setup.source.update))
  for other in deltas[1:]:
    for one, two in zip(deltas[0], other):
      np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('images', [1, 4])
def test_two_checks(shared_data, images):
  folder = shared_data / 'captures' / f'cap_b{images}_e1'
  config = _config(folder, 'global.npz', 'received.npz', images)
  agreement, fit = build.experiment(config).checks
  assert agreement.startswith('The network here and in torch agree to ')
  assert 'e-0' in agreement and agreement.endswith('in both modes.')
  error = float(fit.partition('relative error of ')[2].rstrip('.'))
  assert error < 1e-5


def test_two_epochs(shared_data):
  folder = shared_data / 'captures' / 'cap_b1_e2'
  config = _config(folder, 'global.npz', 'received.npz', 1, epochs=2)
  _, fit = build.experiment(config).checks
  assert float(fit.partition('relative error of ')[2].rstrip('.')) < 1e-4
