"""CI-Net: activation x batch size, and resolution.

  giajax --config=studies/ci_net --workdir=/tmp/ci_net      (activation)
  giajax --config=studies/ci_net:PART --workdir=/tmp/ci_net
  giajax --config=studies/ci_net:PART,runlocal --workdir=/tmp/ci_net

After Fig. 7 of Guo et al., TPAMI 2025, arXiv 2503.11514: the weights of an
untrained generator, fitted to the gradient of a ResNet-18 with fresh weights in
training mode. Their SSIM is the complex-wavelet SSIM. PART is one of

  activation  activation of the network x batch size, on CIFAR-100 (Fig. 7a)
  single      three activations at a batch size of one, on CIFAR-10, with 2,000
              steps and four images
  resolution  side length x batch size, with sigmoids, on a folder of
              photographs (Fig. 7b); the paper's figures are those of ImageNet
              at 224 pixels

CIFAR needs `--config.dataset.data_dir=DIR`, the folder
`--config.dataset.path=DIR`. Other parts take 5,000 steps at all batch sizes; in
the paper, batches below 32 take 2,000. Compare how far sigmoids lie above the
others at one batch size, and each point with its noise control: the prior of
the generator alone makes smooth images.

The paper normalises its images, all of which its generator then cannot reach;
here they are in [0, 1]. Its RReLU is left out.
`--config.client.train_mode=False` asks what BatchNorm in inference mode
changes, and `--config.attack.width=64` what the generator's size does.

`runlocal` has photographs, a ResNet of eight layers, one batch per point, three
activations and batches of one, four and eight, or three side lengths, and 300
steps.
"""

from giajax.engine import build

_SOURCE = 'Guo et al., TPAMI 2025, arXiv 2503.11514'
# CW-SSIM with sigmoids, read off; a bound with ReLU and tanh.
_BATCHES = (1, 4, 8, 16, 32, 64)
_CIFAR100 = (0.82, 0.77, 0.75, 0.74, 0.73, 0.74)
_IMAGENET = (0.54, 0.51, 0.44, 0.36, 0.34, 0.33)
_BOUND = 0.37
_ACTIVATIONS = ('sigmoid', 'tanh', 'relu', 'leaky_relu', 'gelu')
_BOUNDED = ('tanh', 'relu')


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes minutes on two cores."""
  words = (arg or 'activation').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'activation')
  if part not in _PARTS:
    raise ValueError(
      f'Expected a part among {", ".join(_PARTS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.cases.count = 1 if local else 8
  config.model = dict(name='resnet18')
  config.client = dict(name='fedsgd', train_mode=True)
  config.attack = dict(name='ci_net', num_steps=300 if local else 5_000)
  if local:
    config.dataset = dict(name='photographs', size=32)
    config.model = dict(name='resnet20', blocks=(1, 1, 1))
  _PARTS[part](config, local)
  return config


def _activation(config, local):
  batches = (1, 4, 8) if local else _BATCHES
  names = _ACTIVATIONS[:3] if local else _ACTIVATIONS
  if not local:
    config.dataset = dict(
      name='tfds', dataset='cifar100', split='test', data_dir=''
    )
  config.sweep = {'model.activation': names, 'cases.batch_size': batches}
  config.study = dict(
    claim='CI-Net works against networks with sigmoids and hardly against '
    'others; larger batches hurt it.',
    source=f'{_SOURCE}, Fig. 7a (read off; ReLU and tanh are at most 0.37)',
    metrics=('cw_ssim', 'noise_gradient_cw_ssim', 'psnr', 'ssim'),
    paper=[
      dict(
        at={'model.activation': 'sigmoid', 'cases.batch_size': b},
        cw_ssim=found,
      )
      for b, found in zip(_BATCHES, _CIFAR100)
    ],
    columns={
      'the paper at most': [
        dict(at={'model.activation': name}, value=_BOUND) for name in _BOUNDED
      ]
    },
  )


def _single(config, local):
  _activation(config, local)
  config.attack.num_steps = 300 if local else 2_000
  config.sweep = {'model.activation': _ACTIVATIONS[:3]}
  if not local:
    config.cases.count = 4
    config.dataset.dataset = 'cifar10'
  config.study.source = f'{_SOURCE}, Fig. 7a, which is of CIFAR-100 (read off)'


def _resolution(config, local):
  config.model.activation = 'sigmoid'
  if not local:
    config.dataset = dict(name='folder', path='', size=64)
    config.model.stem = 'imagenet'
  sizes = (16, 32, 64) if local else (64, 128, 224)
  batches = (1,) if local else (1, 4, 16)
  config.sweep = {'dataset.size': sizes, 'cases.batch_size': batches}
  config.study = dict(
    claim='Higher resolution hurts CI-Net.',
    source=f'{_SOURCE}, curves of ImageNet (read off)',
    metrics=('cw_ssim', 'noise_gradient_cw_ssim', 'psnr', 'ssim'),
    paper=[
      dict(at={'dataset.size': 224, 'cases.batch_size': b}, cw_ssim=found)
      for b, found in zip(_BATCHES, _IMAGENET)
    ],
  )


_PARTS = {
  'activation': _activation,
  'resolution': _resolution,
  'single': _single,
}
