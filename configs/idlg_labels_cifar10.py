"""iDLG's label rule on a hundred updates of one image each, CIFAR-10.

  giajax --config=idlg_labels_cifar10 --workdir=/tmp/labels \
    --config.dataset.data_dir=DIR

Only the labels count here: the pixels get one step. Zhao, Mopuri and Bilen
2020, arXiv 2001.02610.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks five images."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 100
  config.model = dict(name='lenet')
  config.attack = dict(name='idlg', num_steps=1)
  config.threat = dict(level='C', grants=())
  config.noise_controls = 0
  if arg == 'runlocal':
    config.cases.count = 5
  return config
