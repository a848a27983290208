"""Inverting Gradients on its own ConvNet, CIFAR-10, inference mode.

  giajax --config=inverting_gradients_convnet_cifar10 --workdir=/tmp/ig \
    --config.dataset.data_dir=DIR

Eight test images, one per update, fresh weights, labels known. Geiping et al.
2020, arXiv 2003.14053; their framework takes 24,000 steps, this config a
thousand.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two images, briefly."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 8
  config.model = dict(name='convnet', width=64)
  config.attack = dict(name='inverting_gradients', num_steps=1000)
  config.attack.total_variation = 1e-4
  config.restarts = 2
  if arg == 'runlocal':
    config.cases.count = 2
    config.model.width = 16
    config.attack.num_steps = 100
  return config
