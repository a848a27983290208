"""SPEAR on an MLP, CIFAR-10: batches of 16 images, exactly.

  giajax --config=spear_mlp_cifar10 --workdir=/tmp/spear \
    --config.dataset.data_dir=DIR

Dimitrov et al., NeurIPS 2024, arXiv 2403.03945: five hidden layers of 200
units, untrained. Of five batches on one CPU core, all 80 images came back
exactly, at more than 100 dB and with their labels, in 2 s per batch. Without
the normalisation it fails, because images then leave nearly the same units at
zero.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks four images, once."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 5
  config.cases.batch_size = 16
  config.model = dict(name='mlp', widths=(200,) * 5, normalisation='cifar10')
  config.attack = dict(name='spear', num_steps=16)
  config.threat = dict(level='C', grants=())
  if arg == 'runlocal':
    config.cases.count = 1
    config.cases.batch_size = 4
    config.attack.num_steps = 8
  return config
