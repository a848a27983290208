"""The error against batch size and side length.

  giajax --config=studies/batch_and_resolution --workdir=/tmp/growth
  giajax --config=studies/batch_and_resolution:runlocal --workdir=/tmp/growth

Theorem 1 of Guo et al., TPAMI 2025, arXiv 2503.11514, bounds the norm of the
error by a term that grows like sqrt(B C H W): with the root of the batch size
and with the side length, if the objective were strongly convex. The exponents
are fitted here. An error that stays the same in every pixel grows like the
bound does, so only larger exponents mean that more pixels are harder.

Inverting Gradients on ResNet-18 with fresh weights in inference mode;
`:runlocal` has a small ConvNet on photographs, two batches and 400 steps. The
full size needs `--config.dataset.path=DIR`, a folder of photographs.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  config = build.default_config()
  config.dataset = dict(name='folder', path='', size=64)
  config.cases.count = 8
  config.model = dict(name='resnet18', stem='cifar')
  config.attack = dict(name='inverting_gradients', num_steps=24_000)
  config.attack.total_variation = 1e-2
  config.noise_controls = 0
  config.sweep = {
    # A fit over one key uses the first value of the other.
    'dataset.size': (64, 128, 224),
    'cases.batch_size': (1, 2, 4, 8, 16, 32),
  }
  config.study = dict(
    claim='The error grows with the root of the batch size and with the side '
    'length.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, Theorem 1',
    metrics=('l2', 'psnr', 'ssim'),
    fits=[
      dict(x='cases.batch_size', y='l2', paper=0.5),
      dict(x='dataset.size', y='l2', paper=1.0),
    ],
  )
  if arg == 'runlocal':
    config.dataset = dict(name='photographs', size=32)
    config.cases.count = 2
    config.model = dict(name='convnet', width=16)
    config.attack.num_steps = 400
    config.attack.total_variation = 1e-3
    config.sweep = {
      'dataset.size': (32, 16, 24),
      'cases.batch_size': (1, 2, 4, 8),
    }
  return config
