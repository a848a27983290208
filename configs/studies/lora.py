"""Low-rank adapters: batch x activation, data, image size, ViT, fine-tuning.

  giajax --config=studies/lora --workdir=/tmp/lora      (batch)
  giajax --config=studies/lora:PART --workdir=/tmp/lora
  giajax --config=studies/lora:PART,runlocal --workdir=/tmp/lora

After Fig. 12 of Guo et al., TPAMI 2025, arXiv 2503.11514: the weights of an
untrained generator, fitted to the gradient of rank-4 adapters on the fused
queries, keys and values of a ViT with fresh weights, of which nothing else is
trained. Their SSIM is the complex-wavelet SSIM. PART is one of

  batch    batch size x activation, ViT-base on CIFAR-10
  data     CIFAR-10 and CIFAR-100 x batch size
  size     side length x batch size, on a folder of photographs; the paper's
           figures are those of ImageNet at 224 pixels
  network  ViT-tiny, -base and -large x batch size
  steps    new adapters and those after 20 steps of fine-tuning, with GELU; the
           latter come from

    giajax train --config=studies/lora:steps --point=0 --batch_size=32
      --split=train[:640] --out=runs/lora.npz

CIFAR needs `--config.dataset.data_dir=DIR`, the folder
`--config.dataset.path=DIR`. The paper's ViT has sigmoids in its MLPs, and so
has ours except in `steps` and where GELU stands beside it. Of the paper's
curves, the first and the last point are known. In new adapters B is 0 and A has
no gradient, so that an update says the least: compare the steps. Every point
has a noise control, which shows what the generator's prior alone makes.

The paper's ViT has fixed positions and a mean over tokens, ours torchvision's
learned positions and a class token, with patches of 4 pixels up to 64 pixels
and of 16 beyond; its head is drawn (`init='timm'`), because a head of zeros
leaves adapters without a gradient. All batch sizes take 5,000 steps; in the
paper, batches below 32 take fewer.

`runlocal` has photographs (`data`: CIFAR-10 and Fashion-MNIST), a ViT of four
blocks and 64 features, one batch per point and 300 steps; the file of `steps`
is runs/lora_local.npz, and its 16 images make one step per epoch (--epochs=20
--batch_size=16).
"""

from giajax.engine import build

_SOURCE = 'Guo et al., TPAMI 2025, arXiv 2503.11514'
_CURVES = f'{_SOURCE}, Fig. 12 (read off)'
_BATCHES = (1, 4, 8, 16, 32, 64)
# CW-SSIM of ViT-base at batch sizes 1 and 64.
_ENDS = (1, 64)
_CIFAR10 = (0.52, 0.38)
_DATA = {'cifar10': _CIFAR10, 'cifar100': (0.55, 0.49)}
_IMAGENET = (0.31, 0.28)
_METRICS = ('cw_ssim', 'noise_gradient_cw_ssim', 'psnr', 'ssim')


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
  config.cases.count = 1 if local else 8
  config.model = dict(
    name='vit_base', lora_rank=4, activation='sigmoid', init='timm'
  )
  config.trainable.include = ('*.lora_?.*',)
  # The weights of both priors are 0 in the paper's runs.
  config.attack = dict(
    name='lora_generator',
    num_steps=300 if local else 5_000,
    total_variation=0.0,
    patch=0.0,
  )
  if local:
    config.dataset = dict(name='photographs', size=32)
    config.model.update(name='vit_tiny', width=64, depth=4, heads=4)
  else:
    config.dataset = dict(
      name='tfds', dataset='cifar10', split='test', data_dir=''
    )
  _PARTS[part](config, (1, 4) if local else _BATCHES, local)
  return config


def _batch(config, batches, local):
  del local
  config.sweep = {
    'model.activation': ('sigmoid', 'gelu'),
    'cases.batch_size': batches,
  }
  config.study = dict(
    claim='Larger batches hurt the attack on adapters.',
    source=_CURVES,
    metrics=_METRICS,
    paper=_paper({'model.activation': 'sigmoid'}, _CIFAR10),
  )


def _data(config, batches, local):
  names = tuple(_DATA)
  if local:
    names = ('cifar10', 'fashion_mnist')
    config.dataset = dict(
      name='tfds',
      dataset='cifar10',
      split='test',
      data_dir='',
      size=32,
      channels=3,
    )
  config.sweep = {'dataset.dataset': names, 'cases.batch_size': batches}
  config.study = dict(
    source=_CURVES,
    metrics=_METRICS,
    paper=[
      entry
      for name, ends in _DATA.items()
      for entry in _paper({'dataset.dataset': name}, ends)
    ],
  )


def _size(config, batches, local):
  if local:
    batches = (1,)
  else:
    config.dataset = dict(name='folder', path='', size=32)
  config.sweep = {
    'dataset.size': (16, 32, 64) if local else (32, 64, 224),
    'cases.batch_size': batches,
  }
  config.study = dict(
    claim='Adapters leak images of low resolution, and not of high resolution.',
    source=_CURVES,
    metrics=_METRICS,
    paper=_paper({'dataset.size': 224}, _IMAGENET),
  )


def _network(config, batches, local):
  if local:
    networks, paper = {'model.width': (32, 128)}, []
  else:
    networks = {'model.name': ('vit_tiny', 'vit_base', 'vit_large')}
    paper = _paper({'model.name': 'vit_base'}, _CIFAR10)
  config.sweep = {**networks, 'cases.batch_size': batches}
  config.study = dict(
    claim='Smaller networks leak less.',
    source=_CURVES,
    metrics=_METRICS,
    paper=paper,
  )


def _steps(config, batches, local):
  path = 'runs/lora_local.npz' if local else 'runs/lora.npz'
  config.model.activation = 'gelu'
  config.sweep = {'weights.path': ('', path), 'cases.batch_size': batches}
  config.study = dict(
    source=f'{_SOURCE}, whose adapters are new', metrics=_METRICS
  )


def _paper(at, ends):
  """Returns the two points of a curve of the paper."""
  return [
    dict(at={**at, 'cases.batch_size': batch}, cw_ssim=found)
    for batch, found in zip(_ENDS, ends)
  ]


_PARTS = {
  'batch': _batch,
  'data': _data,
  'size': _size,
  'network': _network,
  'steps': _steps,
}
