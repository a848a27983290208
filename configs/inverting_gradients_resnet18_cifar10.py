"""Inverting Gradients on ResNet-18, CIFAR-10, training-mode BatchNorm.

  giajax --config=inverting_gradients_resnet18_cifar10 --workdir=/tmp/ig18 \
    --config.dataset.data_dir=DIR

Eight test images, one per update, fresh weights, labels known. The client uses
the statistics of its batch, as clients that train do; set
--config.client.train_mode=False for the easier setting of the literature.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks one image, briefly."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 8
  config.model = dict(name='resnet18')
  config.client = dict(name='fedsgd', train_mode=True)
  config.attack = dict(name='inverting_gradients', num_steps=4800)
  config.attack.total_variation = 1e-2
  config.restarts = 2
  if arg == 'runlocal':
    config.cases.count = 1
    config.attack.num_steps = 20
    config.restarts = 1
  return config
