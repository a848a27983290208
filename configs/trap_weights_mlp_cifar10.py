"""Trap weights against an MLP, CIFAR-10: batches of 64 images.

  giajax --config=trap_weights_mlp_cifar10 --workdir=/tmp/trap \
    --config.dataset.data_dir=DIR
  giajax --config=trap_weights_mlp_cifar10:strength --workdir=/tmp/strength \
    --config.dataset.data_dir=DIR

Boenisch et al., EuroS&P 2023, arXiv 2112.02918: gamma is fitted to 256 public
images, so that three of a batch activate a unit on average. Of four batches on
one CPU core, 221 of 256 images (86 %) came back exactly, at 100 dB in the
median, with their labels, in 4 s per batch; no other image was claimed.

`:strength` weakens the manipulation to a half, a tenth and a hundredth. Gamma
is fitted for the mixture, and of the same images 89, 91 and 91 % come back.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks sixteen images, once."""
  if arg not in (None, '', 'strength', 'runlocal'):
    raise ValueError(
      f'Expected strength, runlocal or nothing; got {arg!r}; leave it out'
    )
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 4
  config.cases.batch_size = 64
  config.model = dict(name='mlp', widths=(256,), normalisation='cifar10')
  config.attack = dict(name='trap_weights')
  config.threat = dict(level='G', grants=(), proxy_images=256)
  if arg == 'strength':
    config.sweep = {'attack.strength': (1.0, 0.5, 0.1, 0.01)}
  if arg == 'runlocal':
    config.cases.count = 1
    config.cases.batch_size = 16
  return config
