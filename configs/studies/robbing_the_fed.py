"""Robbing the Fed: batch and data, bins, same labels, FedAvg, hiding, LOKI.

  giajax --config=studies/robbing_the_fed --workdir=/tmp/rtf      (batch)
  giajax --config=studies/robbing_the_fed:PART --workdir=/tmp/rtf
  giajax --config=studies/robbing_the_fed:PART,runlocal --workdir=/tmp/rtf

After Table IV of Guo et al., TPAMI 2025, arXiv 2503.11514: an imprint layer of
1,000 bins in front of ResNet-18 in training mode, with fresh weights. 'exact'
is the share of images at 40 dB or more; the bins allow N (1 - 1/k)^(B-1) of
them. PART is one of

  batch    batch size, on CIFAR-10
  cifar100 the same on a folder of labelled photographs, at 32 pixels
  imagenet the same at 224 pixels; a case has 2.4 GB of weights and gradients
  bins     number of bins, at 32 images
  labels   how many of a batch of four share a label
  fedavg   local epochs x batch of a client of 64 images, the sparse form with
           and without hidden weights; batch 1 of the paper's table is left
           out
  forms    the attack's forms, measurements and disguises, at 64 images
  detector an imprint of 100 bins in front of YOLOv8-n, whose targets are boxes,
           by batch size, at 256 pixels; the folder holds images and labels
  loki     LOKI on the mean of four clients of 16 images, by protocol

CIFAR-10 needs `--config.dataset.data_dir=DIR`, a folder
`--config.dataset.path=DIR`.

`runlocal` has 20 batches per point, five in `fedavg` and `loki`, and two in
`imagenet` and `detector`. Its network is LeNet, except in these two.
"""

from giajax.engine import build

_SOURCE = 'Guo et al., TPAMI 2025, arXiv 2503.11514, Table IV'
_BATCHES = (1, 8, 32, 64)
# Of 64 images, by batch size.
_RECOVERED = {
  'cifar10': (64, 63, 60, 60),
  'cifar100': (64, 64, 61, 60),
  'imagenet': (64, 64, 64, 61),
}
_BINS = (50, 100, 200, 500, 1000)
_FORMS = (
  dict(form='cumulative'),
  dict(form='cumulative', functional='random'),
  dict(form='cumulative', functional='fourier', law='laplace'),
  dict(form='cumulative', hide='order'),
  dict(form='sparse'),
  dict(form='sparse', hide='order'),
  dict(form='sparse', hide='weights'),
)
_HIDING = ('none', 'weights')
_PARTS = (
  *('batch', 'cifar100', 'imagenet'),
  *('bins', 'detector', 'labels', 'fedavg', 'forms', 'loki'),
)


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
  config.cases.update(count=20 if local else 64, batch_size=64)
  config.model = dict(
    name='lenet' if local else 'resnet18', normalisation='cifar10'
  )
  config.client = dict(name='fedsgd', train_mode=True)
  config.attack = dict(name='robbing_the_fed', bins=1000)
  config.threat = dict(level='G', grants=(), proxy_images=256)
  config.noise_controls = 0
  {
    'batch': _batch,
    'cifar100': _cifar100,
    'imagenet': _imagenet,
    'bins': _bins,
    'detector': _detector,
    'labels': _labels,
    'fedavg': _fedavg,
    'forms': _forms,
    'loki': _loki,
  }[part](config, local)
  return config


def _batch(config, local, name='cifar10'):
  del local
  config.sweep = {'cases.batch_size': _BATCHES}
  config.study = dict(
    claim='The closed form recovers images exactly; batch and data hardly '
    'matter.',
    source=_SOURCE,
    metrics=('exact', 'psnr', 'seconds_per_update'),
    paper=[
      dict(at={'cases.batch_size': b}, exact=found / 64)
      for b, found in zip(_BATCHES, _RECOVERED[name])
    ],
    columns=_columns(
      'cases.batch_size', [(b, _allowed(1000, b)) for b in _BATCHES]
    ),
  )


def _cifar100(config, local):
  config.dataset = dict(name='folder', path='', size=32)
  _batch(config, local, 'cifar100')


def _imagenet(config, local):
  config.dataset = dict(name='folder', path='', size=224)
  config.model = dict(name='resnet18', stem='imagenet')
  if local:
    config.cases.count = 2
  # Weights and gradients of a case are held a few times over.
  config.run.cases_per_batch = 1
  _batch(config, local, 'imagenet')


def _bins(config, local):
  del local
  # 50 bins are too few for 64 images.
  config.cases.batch_size = 32
  config.sweep = {'attack.bins': _BINS}
  config.study = dict(
    claim='More bins recover more of a batch.',
    source=_SOURCE.replace('Table IV', 'its figure of bins'),
    metrics=('exact', 'psnr'),
    columns=_columns('attack.bins', [(k, _allowed(k, 32)) for k in _BINS]),
  )


def _detector(config, local):
  config.dataset = dict(name='coco_folder', path='', size=256)
  config.model = dict(name='yolov8n')
  config.task = dict(name='detection')
  config.attack.bins = 100
  config.cases.count = 2 if local else 16
  sizes = (1, 4, 8)
  config.sweep = {'cases.batch_size': sizes}
  config.study = dict(
    source='Fowl et al., ICLR 2022, arXiv 2110.13057, which has no detector',
    metrics=('exact', 'psnr', 'seconds_per_update'),
    columns=_columns(
      'cases.batch_size', [(b, _allowed(100, b)) for b in sizes]
    ),
  )


def _labels(config, local):
  del local
  config.cases.update(batch_size=4, rule='repeated_label')
  repeats = (1, 2, 3, 4)
  config.sweep = {'cases.repeats': repeats}
  config.study = dict(
    claim='Images of one label are recovered as exactly as others.',
    source=_SOURCE,
    metrics=('exact', 'psnr'),
    paper=[dict(at={'cases.repeats': r}, exact=1.0) for r in repeats],
    columns={'allowed by the bins': [dict(at={}, value=_allowed(1000, 4))]},
  )


def _fedavg(config, local):
  config.cases.count = 5 if local else 64
  config.client = dict(name='fedavg', learning_rate=0.01, train_mode=True)
  config.attack.form = 'sparse'
  epochs, sizes = (1, 2, 5), (8, 16)
  config.sweep = {
    'attack.hide': _HIDING,
    'client.epochs': epochs,
    'client.batch_size': sizes,
  }
  config.study = dict(
    claim='FedAvg does not stop attacks that alter the architecture.',
    source=_SOURCE.replace('Table IV', 'its table of influences'),
    metrics=('exact', 'psnr'),
    columns=_columns(
      'attack.hide', [(hide, _allowed(1000, 64, hide)) for hide in _HIDING]
    ),
  )


def _forms(config, local):
  del local
  forms = [dict(name='robbing_the_fed', **form) for form in _FORMS]
  config.sweep = {'attack': tuple(forms)}
  config.study = dict(
    source='Fowl et al., ICLR 2022, arXiv 2110.13057, without such a table',
    metrics=('exact', 'psnr'),
    columns=_columns(
      'attack',
      [(form, _allowed(1000, 64, form.get('hide', 'none'))) for form in forms],
    ),
  )


def _loki(config, local):
  config.cases.update(count=5 if local else 64, clients=4)
  config.attack = dict(name='loki')
  rounds = (
    dict(name='fedsgd', train_mode=True),
    *(
      dict(
        name='fedavg',
        train_mode=True,
        learning_rate=rate,
        batch_size=8,
        epochs=epochs,
      )
      for rate in (1e-4, 1e-2)
      for epochs in (1, 5)
    ),
  )
  bins = (64, 256)
  config.sweep = {'client': rounds, 'attack.bins': bins}
  config.study = dict(
    source='Zhao et al., IEEE S&P 2024, arXiv 2303.12233, without such a table',
    metrics=('exact', 'psnr'),
    columns=_columns('attack.bins', [(k, _allowed(k, 16)) for k in bins]),
  )


def _columns(key, values):
  """Returns what the bins allow, by values of a swept key."""
  entries = [dict(at={key: at}, value=value) for at, value in values]
  return {'allowed by the bins': entries}


def _allowed(bins, batch_size, hide='none'):
  """The share of images that are alone in one of the equally likely bins."""
  if hide == 'weights':
    return '–'  # each unit measures a different quantity, so there are no bins
  return f'{(1 - 1 / bins) ** (batch_size - 1):.1%}'
