"""What the start already reveals: the target with noise in some of its pixels.

  giajax --config=studies/initialisation --workdir=/tmp/start
  giajax --config=studies/initialisation:runlocal --workdir=/tmp/start

The initialisation study of Valadi et al., 2025, arXiv 2508.19819: Inverting
Gradients that starts from the truth, with noise in a fraction p of its pixels,
for p from 0 to 1, on networks at 32 pixels with fresh weights. It is a
diagnosis and not an attack, because no attacker knows the start. If the result
is worse than the start, the gradient reveals less than the start did. The full
size needs `--config.dataset.data_dir=DIR` with CIFAR-10.

`:runlocal` has one photograph, three fractions and 100 steps.
"""

from giajax.engine import build

_NETWORKS = (
  'resnet18',
  'convnext_tiny',
  'vit_base',
  'swin_tiny',
  'swin_v2_tiny',
  'maxvit_tiny',
)
_LOCAL = (
  'resnet20',
  'convnext_tiny',
  'vit_tiny',
  'swin_tiny',
  'swin_v2_tiny',
  'maxvit_tiny',
)


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 8
  config.attack = dict(
    name='inverting_gradients', num_steps=10_000, start='target'
  )
  config.attack.total_variation = 0.052
  config.threat.grants = ('labels', 'target')
  config.noise_controls = 0
  config.sweep = {
    'model.name': _NETWORKS,
    'attack.noised_fraction': (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
  }
  config.study = dict(
    claim='Modern, performance-optimised networks resist visually: what comes '
    'back is what the start already showed.',
    source='Valadi et al., 2025, arXiv 2508.19819, the initialisation study',
    metrics=('start_ssim', 'ssim', 'psnr'),
  )
  if arg == 'runlocal':
    config.dataset = dict(name='photographs', size=32)
    config.cases.count = 1
    config.attack.num_steps = 100
    config.attack.total_variation = 1e-3
    config.sweep = {
      'model.name': _LOCAL,
      'attack.noised_fraction': (0.0, 0.5, 1.0),
    }
  return config
