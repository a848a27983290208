"""Generative Gradient Leakage: what comes from the gradient, what from the GAN.

  giajax --config=studies/generative_leakage --workdir=/tmp/ggl      (cifar10)
  giajax --config=studies/generative_leakage:PART --workdir=/tmp/ggl
  giajax --config=studies/generative_leakage:PART,runlocal --workdir=/tmp/ggl

The latents of a trained generator, by CMA-ES (ggl) and by Adam (ggl_adam), from
the gradient of one image, labels known. Guo et al., TPAMI 2025, arXiv
2503.11514, find that a gradient of noise serves the attack as well as the real
one; their search ended after two updates of CMA-ES. Here it has the 25,000
candidates of the authors' code, and stands beside four guesses: the same attack
on a gradient of noise, a random image of the generator, where the search
started and, with auxiliary data, the nearest auxiliary image. What the gradient
adds is the distance to the best of them. PART is one of

  cifar10  a conditional GAN, which learned from the training split, and
           ResNet-20 with fresh and trained weights, without figures of a paper.
           `--config.dataset.data_dir` and `--config.auxiliary.data_dir` are
           folders with CIFAR-10, runs/resnet20.npz has the weights, and the
           generator comes from

    giajax train --config=studies/generative_leakage:cifar10 --part=generator
      --point=1 --epochs=100 --out=runs/gan.npz

  faces    CelebA at 64 pixels, ResNet-18 with fresh weights, a DCGAN of faces,
           by defence; the server knows the defence. Beside it the figures of Li
           et al., CVPR 2022, arXiv 2203.15696, at 32 pixels with a generator of
           CelebA; their PSNR is taken on [-1, 1] with a peak of 1, so that 6.02
           dB are added. It needs a folder of faces with
           a folder for each of two classes or more,
           `--config.dataset.path=DIR`, and a state dict of PyTorch's DCGAN
           example, `--config.attack.generator.path=FILE`.

`--config.lpips=FILE` adds LPIPS, which sees likeness where PSNR sees none.

`runlocal` has one image per point, two for cifar10, 500 candidates of ggl alone
and, for faces, a quarter of the width and three of the defences; cifar10's
generator is called runs/gan_local.npz and has half the width.
"""

from giajax.engine import build

_LI = 'Li et al., CVPR 2022, arXiv 2203.15696'
_RANGE = 6.02  # dB between a peak of 1 and one of 2
_DEFENSES = (
  dict(name='none'),
  dict(name='gaussian_noise', scale=0.1),
  dict(name='per_example_clipping', clip=4.0),
  dict(name='pruning', keep=0.1),
  dict(name='soteria', fraction=0.8),
)
# PSNR of CelebA as printed; Adam only without a defence.
_FACES = {
  'none': 11.50,
  'gaussian_noise': 11.08,
  'per_example_clipping': 11.19,
  'pruning': 11.15,
  'soteria': 10.14,
}
_FACES_ADAM = 13.70
_GUESSES = ('noise_gradient', 'class_sample', 'start')


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes minutes on two cores."""
  words = (arg or 'cifar10').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'cifar10')
  if part not in _PARTS:
    raise ValueError(
      f'Expected a part among {", ".join(_PARTS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.attack = dict(name='ggl')
  # Both have the authors' budgets by default.
  attacks = ('ggl', 'ggl_adam')
  if local:
    config.attack.evaluations = 500
    attacks = ('ggl',)
  _PARTS[part](config, attacks, local)
  config.noise_controls = config.cases.count
  return config


def _faces(config, attacks, local):
  config.dataset = dict(name='folder', path='', size=64)
  config.cases.count = 1 if local else 16
  config.model = dict(name='resnet18', width=0.25 if local else 1.0)
  config.attack.generator = dict(
    name='dcgan', path='', prefix='netG_state_dict'
  )
  config.threat = dict(level='D', grants=('labels', 'defense'))
  defenses = _DEFENSES[:2] + _DEFENSES[3:4] if local else _DEFENSES
  config.sweep = {'attack.name': attacks, 'defense': defenses}
  cells = [('ggl', defense, psnr) for defense, psnr in _FACES.items()]
  cells.append(('ggl_adam', 'none', _FACES_ADAM))
  config.study = dict(
    claim='What is found survives the usual defences.',
    source=f'{_LI}, its table of CelebA',
    metrics=_metrics(*_GUESSES),
    paper=[
      dict(
        at={'attack.name': attack, 'defense': defense},
        psnr=round(psnr + _RANGE, 2),
        note='CelebA at 32 pixels, another generator',
      )
      for attack, defense, psnr in cells
    ],
  )


def _cifar10(config, attacks, local):
  cifar10 = dict(name='tfds', dataset='cifar10', data_dir='')
  config.dataset = dict(**cifar10, split='test')
  config.auxiliary = dict(**cifar10, split='train')
  config.cases.count = 2 if local else 32
  config.model = dict(name='resnet20', normalisation='imagenet')
  config.attack.generator = dict(
    name='conditional_dcgan',
    width=16 if local else 32,
    path='runs/gan_local.npz' if local else 'runs/gan.npz',
  )
  config.threat = dict(level='D', grants=('labels',))
  config.sweep = {
    'attack.name': attacks,
    'weights.path': ('', 'runs/resnet20.npz'),
  }
  config.study = dict(
    claim='A gradient of noise serves the attack as well, and training does '
    'not matter to it.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, without such a table',
    metrics=_metrics(*_GUESSES, 'nearest_auxiliary'),
  )


def _metrics(*guesses):
  """Returns PSNR and SSIM, each beside those of the guesses."""
  return tuple(
    name
    for metric in ('psnr', 'ssim')
    for name in (metric, *(f'{guess}_{metric}' for guess in guesses))
  )


_PARTS = {'cifar10': _cifar10, 'faces': _faces}
