"""Generative Gradient Leakage through a class-conditional GAN, CIFAR-10.

  giajax train --config=ggl_resnet20_cifar10 --part=generator --out=gan.npz \
    --epochs=20 --flip --config.weights.path=resnet20.npz \
    --config.dataset.data_dir=DIR --config.auxiliary.data_dir=DIR
  giajax --config=ggl_resnet20_cifar10 --workdir=/tmp/ggl \
    --config.attack.generator.path=gan.npz --config.weights.path=resnet20.npz \
    --config.dataset.data_dir=DIR --config.auxiliary.data_dir=DIR

Eight test images, one per update of a ResNet-20 in inference mode, labels
known, 10,000 candidates each, and as many for eight gradients of noise. The
generator has learned from the training split. Without `--config.weights.path`
the audited network has fresh weights; `--config.lpips=FILE` adds LPIPS. Li et
al. 2022, arXiv 2203.15696.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` tries few candidates on two images."""
  config = build.default_config()
  cifar10 = dict(name='tfds', dataset='cifar10', data_dir='')
  config.dataset = dict(**cifar10, split='test')
  config.auxiliary = dict(**cifar10, split='train')
  config.cases.count = config.noise_controls = 8
  config.model = dict(name='resnet20', normalisation='imagenet')
  config.client = dict(name='fedsgd', train_mode=False)
  config.attack = dict(
    name='ggl',
    evaluations=10_000,
    generator=dict(name='conditional_dcgan', width=16, path=''),
  )
  config.threat = dict(level='D', grants=('labels',))
  guesses = ('', 'noise_gradient_', 'class_sample_', 'nearest_auxiliary_')
  config.study = dict(
    claim='A gradient of noise serves the attack as well.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, without such a table',
    metrics=tuple(
      f'{guess}{metric}'
      for metric in ('psnr', 'cw_ssim', 'lpips')
      for guess in guesses
    ),
  )
  if arg == 'runlocal':
    config.cases.count = config.noise_controls = 2
    config.attack.evaluations = 500
  return config
