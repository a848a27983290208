"""Deep Leakage from Gradients on its own LeNet, CIFAR-10.

  giajax --config=dlg_lenet_cifar10 --workdir=/tmp/dlg \
    --config.dataset.data_dir=DIR

Ten test images, one per update, labels unknown, weights from U(-0.5, 0.5). Zhu,
Liu and Han 2019, arXiv 1906.08935.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two images, briefly."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 10
  config.model = dict(name='lenet')
  config.attack = dict(name='dlg', num_steps=2000)
  config.threat = dict(level='C', grants=())
  config.restarts = 2
  if arg == 'runlocal':
    config.cases.count = 2
    config.attack.num_steps = 60
  return config
