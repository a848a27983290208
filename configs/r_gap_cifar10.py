"""R-GAP on its own network, CIFAR-10: one image, solved for layer by layer.

  giajax --config=r_gap_cifar10 --workdir=/tmp/r_gap \
    --config.dataset.data_dir=DIR

Zhu and Blaschko, ICLR 2021, arXiv 2010.07733: CNN6, untrained. Ten test images
on two CPU cores: median 70.6 dB, nine of ten exact, all labels right. The tenth
came back at 10.6 dB, with a score of 0.04, while the others have 1e-10.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two images."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 10
  config.model = dict(name='cnn6')
  config.attack = dict(name='r_gap')
  config.threat = dict(level='C', grants=())
  if arg == 'runlocal':
    config.cases.count = 2
  return config
