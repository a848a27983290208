"""FedAvg against what the server knows: local epochs x batch x knowledge.

  giajax --config=studies/fedavg_knowledge --workdir=/tmp/fedavg

After the table "practical FedAvg" of Guo et al., TPAMI 2025, arXiv 2503.11514:
Inverting Gradients against a client of 64 CIFAR-100 images, local rate 0.01,
ResNet-18 with fresh weights in inference mode. The server knows rate, batch and
epochs ('same', strong), guesses them (weak), or takes what it sees for one
gradient ('one_gradient', none). It wants `--config.dataset.data_dir=DIR`.

`:runlocal` has four photographs, a small ConvNet and 500 steps.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar100', split='test', data_dir=''
  )
  config.cases.batch_size = 64
  config.model = dict(name='resnet18')
  config.client = dict(name='fedavg', learning_rate=0.01)
  config.attack = dict(name='inverting_gradients', num_steps=24_000)
  config.hparams = dict(total_variation=1e-2)
  config.noise_control = False
  config.sweep = {
    'client.epochs': (1, 2, 5),
    'client.batch_size': (1, 8, 16),
    'belief': _beliefs(8),
  }
  if arg == 'runlocal':
    config.dataset = dict(name='photographs', size=32)
    config.cases.batch_size = 4
    config.model = dict(name='convnet', width=16)
    config.attack.num_steps = 500
    config.hparams = dict(total_variation=1e-3)
    config.sweep['client.epochs'] = (1, 2)
    config.sweep['client.batch_size'] = (1, 4)
    config.sweep['belief'] = _beliefs(2)
  return config


def _beliefs(batch_size):
  weak = dict(
    name='fedavg', learning_rate=0.001, batch_size=batch_size, epochs=2
  )
  return dict(name='same'), weak, dict(name='one_gradient')
