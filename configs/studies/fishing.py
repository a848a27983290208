"""Fishing: one image of a large batch, by an altered classifier.

  giajax --config=studies/fishing --workdir=/tmp/fishing \
    --config.dataset.path=DIR
  giajax --config=studies/fishing:trained --workdir=/tmp/fishing \
    --config.dataset.path=DIR --config.weights.path=FILE
  giajax --config=studies/fishing:runlocal --workdir=/tmp/fishing \
    --config.dataset.data_dir=DIR

After Guo et al., TPAMI 2025, arXiv 2503.11514: the curves of fishing on
ResNet-18 over batch size and resolution. Their SSIM is the complex-wavelet SSIM
of the image that was fished. This is why there is a column of claimed images:
the other images of the batch are never claimed. They average over every image
of a batch as the target; here there is one target per batch, chosen by the
attacker, over `cases.count` batches. The feature multiplier is 3e4, the
attack's default; in the paper it is 300. DIR is a folder of labelled
photographs, FILE trained weights.

`:runlocal` has CIFAR-10 at 32 pixels, a quarter of the width, two batches and
600 steps.
"""

from giajax.engine import build

_BATCHES = (16, 32, 64)
# SSIM by side length, one per batch size; the curves of fresh weights are read
# off where they are flat.
_TRAINED = {
  64: (0.65, 0.65, 0.65),
  128: (0.61, 0.64, 0.63),
  224: (0.57, 0.57, 0.58),
}
_FRESH = {64: (0.46, 0.46, 0.46), 224: (0.25, 0.25, 0.25)}
_SIZES = ('runlocal', 'trained')


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  if arg and arg not in _SIZES:
    raise ValueError(
      f'Expected one of {", ".join(_SIZES)}, or nothing; got {arg!r}; leave it '
      'out'
    )
  config = build.default_config()
  config.dataset = dict(name='folder', path='', size=64)
  config.cases.update(count=8, rule='random')
  config.model = dict(name='resnet18', stem='imagenet')
  config.attack = dict(name='fishing', num_steps=24_000)
  config.threat = dict(level='C', grants=('alter_parameters',))
  config.noise_controls = 0
  config.gradient_share = True
  config.sweep = {
    'dataset.size': tuple(_TRAINED),
    'cases.batch_size': _BATCHES,
  }
  figures = _TRAINED if arg == 'trained' else _FRESH
  config.study = dict(
    claim='An altered classifier leaves one image of a large batch to be '
    'recovered, whatever the size of the batch, and better from trained '
    'weights.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, curves (read off)',
    metrics=(
      *('cw_ssim_claimed', 'psnr_claimed', 'ssim_claimed'),
      'gradient_share',
    ),
    paper=[
      dict(
        at={'dataset.size': size, 'cases.batch_size': batch},
        cw_ssim_claimed=ssim,
      )
      for size, row in figures.items()
      for batch, ssim in zip(_BATCHES, row)
    ],
  )
  if arg == 'runlocal':
    config.dataset = dict(
      name='tfds', dataset='cifar10', split='test', data_dir=''
    )
    config.cases.count = 2
    config.model = dict(name='resnet18', width=0.25)
    config.attack.num_steps = 600
    config.sweep = {'cases.batch_size': _BATCHES}
    config.study.paper = [
      dict(
        at={'cases.batch_size': batch},
        cw_ssim_claimed=ssim,
        note='the paper: ImageNet at 64 pixels, full width',
      )
      for batch, ssim in zip(_BATCHES, _FRESH[64])
    ]
  return config
