"""FedAvg against what the server knows: local epochs x batch x knowledge.

  giajax --config=studies/fedavg_knowledge --workdir=/tmp/fedavg
  giajax --config=studies/fedavg_knowledge:runlocal --workdir=/tmp/fedavg

After the table "practical FedAvg" of Guo et al., TPAMI 2025, arXiv 2503.11514:
Inverting Gradients against a client of 64 CIFAR-100 images, local rate 0.01,
ResNet-18 with fresh weights in inference mode. The server knows rate, batch and
epochs ('same', strong), guesses them (weak), or treats what it sees as one
gradient ('one_gradient', none; here with the right sign). The study needs
`--config.dataset.data_dir=DIR`.

`:runlocal` has four photographs, a small ConvNet and 500 steps.
"""

from giajax.engine import build

# PSNR and SSIM at (epochs, batch): strong, weak, none.
_PAPER = {
  (1, 1): ((12.02, 0.303), (12.26, 0.397), (11.40, 0.230)),
  (1, 8): ((14.11, 0.503), (11.75, 0.362), (11.53, 0.182)),
  (1, 16): ((14.50, 0.505), (12.26, 0.397), (11.57, 0.150)),
  (2, 1): ((12.13, 0.365), (11.08, 0.267), (11.30, 0.201)),
  (2, 8): ((12.99, 0.425), (12.36, 0.387), (11.44, 0.157)),
  (2, 16): ((15.17, 0.526), (13.67, 0.450), (11.62, 0.138)),
  (5, 1): ((11.51, 0.346), (10.93, 0.265), (11.48, 0.190)),
  (5, 8): ((14.58, 0.521), (11.63, 0.332), (10.48, 0.167)),
  (5, 16): ((14.85, 0.525), (12.22, 0.349), (11.03, 0.131)),
}


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar100', split='test', data_dir=''
  )
  config.cases.batch_size = 64
  config.model = dict(name='resnet18')
  config.client = dict(name='fedavg', learning_rate=0.01)
  config.attack = dict(name='inverting_gradients', num_steps=24_000)
  config.attack.total_variation = 1e-2
  config.noise_controls = 0
  config.sweep = {
    'client.epochs': (1, 2, 5),
    'client.batch_size': (1, 8, 16),
    'belief': _beliefs(8),
  }
  config.study = dict(
    claim='Several local steps alone blunt the attack, the more so the less '
    'the server knows of them.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, the table of FedAvg',
    paper=_paper({}),
  )
  if arg == 'runlocal':
    config.dataset = dict(name='photographs', size=32)
    config.cases.batch_size = 4
    config.model = dict(name='convnet', width=16)
    config.attack.num_steps = 500
    config.attack.total_variation = 1e-3
    config.sweep['client.epochs'] = (1, 2)
    config.sweep['client.batch_size'] = (1, 4)
    config.sweep['belief'] = _beliefs(2)
    config.study.paper = _paper({16: 4})
  return config


def _beliefs(batch_size):
  weak = dict(
    name='fedavg', learning_rate=0.001, batch_size=batch_size, epochs=2
  )
  return dict(name='same'), weak, dict(name='one_gradient')


def _paper(instead):
  """Returns the paper's cells; `instead` maps its batch sizes to ours."""
  cells = []
  for (epochs, batch_size), found in _PAPER.items():
    own = instead.get(batch_size, batch_size)
    for belief, (psnr, ssim) in zip(('same', 'fedavg', 'one_gradient'), found):
      at = {
        'client.epochs': epochs,
        'client.batch_size': own,
        'belief': belief,
      }
      note = f'B {batch_size} of 64' if own != batch_size else ''
      cells.append(dict(at=at, psnr=psnr, ssim=ssim, note=note))
  return cells
