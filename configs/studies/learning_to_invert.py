"""Learning to Invert: batch size x network.

  giajax --config=studies/learning_to_invert --workdir=/tmp/lti    (lenet,1)
  giajax --config=studies/learning_to_invert:NETWORK,B --workdir=/tmp/lti
  giajax --config=studies/learning_to_invert:NETWORK,B,runlocal
    --workdir=/tmp/lti

After Fig. 9 of Guo et al., TPAMI 2025, arXiv 2503.11514: a perceptron that
learned to invert the gradients of one network with one set of weights, on
CIFAR-10. Their SSIM is the complex-wavelet SSIM. B is 1, 4, 8, 16 or 32, and
NETWORK one of

  lenet     LeNet, three convolutions and sigmoids, weights from U(-0.5, 0.5)
  trained   the same, trained; the weights come from

    giajax train --config=studies/learning_to_invert:lenet,1 --epochs=30
      --out=runs/lenet.npz

  resnet20  ResNet-20, fresh, in inference mode; its gradient is hashed to half
            of its entries; the paper draws all weights from U(-0.5, 0.5)

Each B and each network need a perceptron of their own, so that the figure is
several audits, of one point each. For lenet and four images,

    giajax train --config=studies/learning_to_invert:lenet,4 --part=generator
      --epochs=5000 --batch_size=256 --learning_rate=1e-4
      --out=runs/lti_lenet_4.npz

The authors take 200 epochs for B = 1, and 40 or 200 for ResNet-20. All need
`--config.dataset.data_dir=DIR` and `--config.auxiliary.data_dir=DIR` with
CIFAR-10, of which the perceptron learns from the training split. A model that
changes, as it does in each round, needs another perceptron, so the figures for
trained weights are a diagnosis. Compare what comes back with the mean image,
which a perceptron that cannot read an update makes of it, and with the nearest
auxiliary image.

`runlocal` has five updates and a smaller perceptron, whose file ends in
`_local.npz`; training it for 20 epochs at the default learning rate is the
longer part.
"""

from giajax.engine import build

_BATCHES = (1, 4, 8, 16, 32)
_LENET = dict(name='lenet', convolutions=3)
# The network, and the paper's CW-SSIM by batch size, read off.
_NETWORKS = {
  'lenet': (_LENET, (0.80, 0.64, 0.47, 0.33, 0.28)),
  'trained': (_LENET, (0.80, 0.64, 0.47, 0.36, 0.31)),
  'resnet20': (dict(name='resnet20'), (0.61, 0.33, 0.29, 0.27, 0.24)),
}


def get_config(arg=None):
  """Returns one audit; with `runlocal` it is small."""
  words = (arg or '').split(',')
  local = 'runlocal' in words
  network = _word(words, _NETWORKS, 'lenet')
  batch = int(_word(words, [*map(str, _BATCHES)], '1'))
  unknown = {*words} - {*_NETWORKS, *map(str, _BATCHES), 'runlocal', ''}
  if unknown:
    raise ValueError(
      f'Expected one of {", ".join(_NETWORKS)} and one of '
      f'{", ".join(map(str, _BATCHES))}; got {min(unknown)!r}; correct it'
    )
  model, figures = _NETWORKS[network]
  config = build.default_config()
  cifar10 = dict(name='tfds', dataset='cifar10', data_dir='')
  config.dataset = dict(**cifar10, split='test')
  config.auxiliary = dict(**cifar10, split='train')
  config.cases.update(count=5 if local else 64, batch_size=batch)
  config.model = model
  config.weights.path = 'runs/lenet.npz' if network == 'trained' else ''
  path, sizes = f'runs/lti_{network}_{batch}.npz', {}
  if local:
    path = f'runs/lti_{network}_{batch}_local.npz'
  elif network == 'resnet20':
    sizes = dict(width=3_000, hashed=134_861)  # half of its entries
  else:
    sizes = dict(width=3_000 if batch == 1 else 10_000, hashed=0)
  config.attack = dict(
    name='lti', generator=dict(name='lti', path=path, **sizes)
  )
  config.threat = dict(level='D', grants=())
  config.study = dict(
    claim='Larger batches and larger networks hurt the attack; trained weights '
    'do not.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, Fig. 9 (read off)',
    metrics=(
      'cw_ssim',
      'mean_image_cw_ssim',
      'psnr',
      'mean_image_psnr',
      'noise_gradient_psnr',
      'nearest_auxiliary_psnr',
      'ssim',
    ),
    paper=[dict(at={}, cw_ssim=figures[_BATCHES.index(batch)])],
  )
  return config


def _word(words, known, default):
  """Returns the word that is known, or the default."""
  return next((word for word in words if word in known), default)
