"""APRIL on a ViT with a bare first attention, CIFAR-10: one image at a time.

  giajax --config=april_vit_cifar10 --workdir=/tmp/april \
    --config.dataset.data_dir=DIR

Lu et al., CVPR 2022, arXiv 2112.14087: four blocks, untrained. Ten test images
on two CPU cores: mean 43.3 dB, from 32.8 to 58.0 dB, all labels right; noise in
the gradient's place gives 12.4 dB, and the mean image 13.2 dB.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two images."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 10
  config.model = dict(
    name='vit_tiny', depth=4, init='timm', bare_first_attention=True
  )
  config.attack = dict(name='april')
  config.threat = dict(level='C', grants=())
  if arg == 'runlocal':
    config.cases.count = 2
  return config
