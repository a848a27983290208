"""Cocktail party on an MLP, CIFAR-10: batches of 16 images.

  giajax --config=cocktail_party_mlp_cifar10 --workdir=/tmp/party \
    --config.dataset.data_dir=DIR

Kariyappa et al., ICML 2023, arXiv 2209.05578: 256 units, untrained. Three
batches on two CPU cores, in 6 s each: 26.9, 33.9 and 32.6 dB on average; noise
in the gradient's place gives 7 dB, and the mean image 12.5 dB.
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
  config.model = dict(name='mlp', widths=(256,))
  config.attack = dict(name='cocktail_party', num_steps=2_000)
  config.threat = dict(level='C', grants=())
  if arg == 'runlocal':
    config.cases.count = 1
    config.cases.batch_size = 4
    config.attack.num_steps = 500
  return config
