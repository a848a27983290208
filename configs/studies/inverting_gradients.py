"""Inverting Gradients: batch x training state, depth, data, repeated labels.

  giajax --config=studies/inverting_gradients --workdir=/tmp/ig      (batch)
  giajax --config=studies/inverting_gradients:PART --workdir=/tmp/ig
  giajax --config=studies/inverting_gradients:PART,runlocal --workdir=/tmp/ig

After the study of optimisation attacks of Guo et al., TPAMI 2025, arXiv
2503.11514: ResNet-18 in inference mode. PART is one of

  batch    batch size x fresh or trained weights. The trained ones come from

    giajax train --config=studies/inverting_gradients:batch --point=0
      --epochs=30 --out=runs/ig.npz

  depth    ResNets of different depth, fresh
  data     data sets, fresh

and repeated labels are in `studies/gradient_similarity`. CIFAR needs
`--config.dataset.data_dir=DIR`, and so does ImageNet at 64 pixels.

`runlocal` has half the width (trained for one epoch as above with
`batch,runlocal`, --epochs=1 and --out=runs/ig_local.npz), batches of one and
four, two of each, and 600 steps.
"""

from giajax.engine import build

# SSIM of S1's curves, digitised, at batch 1, 4, 8, 16, 32, 64.
_BATCHES = (1, 4, 8, 16, 32, 64)
_FRESH = (0.77, 0.66, 0.57, 0.40, 0.36, 0.30)
_TRAINED = (0.72, 0.42, 0.42, 0.41, 0.34, 0.29)
_DEPTHS = {
  'resnet18': (0.77, 0.70, 0.69, 0.63, 0.58, 0.51),
  'resnet34': (0.62, 0.38, 0.36, 0.32, 0.32, 0.30),
  'resnet50': (0.42, 0.32, 0.35, 0.31, 0.31, 0.30),
  'resnet101': (0.32, 0.24, 0.26, 0.30, 0.16, 0.32),
}
_DATA = {
  'cifar10': (0.77, 0.66, 0.57, 0.40, 0.36, 0.30),
  'cifar100': (0.77, 0.70, 0.69, 0.63, 0.58, 0.51),
  'imagenet_resized/64x64': (0.40, 0.35, 0.33, 0.32, 0.31, 0.31),
}
_PARTS = ('batch', 'depth', 'data')


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes minutes on two cores."""
  words = (arg or 'batch').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'batch')
  if part not in _PARTS:
    raise ValueError(
      f'Expected a part among {", ".join(_PARTS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 2 if local else 16
  config.model = dict(name='resnet18', width=0.5 if local else 1.0)
  steps = 600 if local else 24_000
  config.attack = dict(name='inverting_gradients', num_steps=steps)
  config.attack.total_variation = 1e-2
  config.noise_controls = 0
  batches = (1, 4) if local else _BATCHES
  {'batch': _batch, 'depth': _depth, 'data': _data}[part](
    config, batches, local
  )
  return config


def _batch(config, batches, local):
  weights = 'runs/ig_local.npz' if local else 'runs/ig.npz'
  config.sweep = {
    'weights.path': ('', weights),
    'cases.batch_size': batches,
  }
  config.study = dict(
    claim='Larger batches and trained weights each hurt the attack.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, curves of CIFAR-10 '
    '(read off)',
    paper=[
      dict(at={'weights.path': path, 'cases.batch_size': b}, ssim=ssim)
      for path, found in (('', _FRESH), (weights, _TRAINED))
      for b, ssim in zip(_BATCHES, found)
    ],
  )


def _depth(config, batches, local):
  config.dataset.dataset = 'cifar10' if local else 'cifar100'
  config.sweep = {'model.name': tuple(_DEPTHS), 'cases.batch_size': batches}
  config.study = dict(
    claim='More complex networks hurt the attack.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, curves of CIFAR-100 '
    '(read off)',
    paper=[
      dict(at={'model.name': name, 'cases.batch_size': b}, ssim=ssim)
      for name, found in _DEPTHS.items()
      for b, ssim in zip(_BATCHES, found)
    ],
  )


def _data(config, batches, local):
  names = ('cifar10', 'mnist', 'fashion_mnist') if local else tuple(_DATA)
  config.sweep = {'dataset.dataset': names, 'cases.batch_size': batches}
  if local:
    config.dataset.channels = 3
    config.dataset.size = 32
  config.study = dict(
    claim='What is in the images matters: ImageNet comes back worse.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, curves (read off)',
    paper=[
      dict(at={'dataset.dataset': name, 'cases.batch_size': b}, ssim=ssim)
      for name, found in _DATA.items()
      for b, ssim in zip(_BATCHES, found)
    ],
  )
