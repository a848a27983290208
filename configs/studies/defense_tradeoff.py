"""What each defence saves, and what it costs: leakage against accuracy.

  giajax --config=studies/defense_tradeoff --workdir=/tmp/tradeoff
  giajax --config=studies/defense_tradeoff:runlocal --workdir=/tmp/tradeoff

Every defence at several strengths, against Inverting Gradients by a server that
does not know it, and by one that does (`threat.grants`). The accuracy next to
it is that of the same network trained under the defence,

  giajax train --config=studies/defense_tradeoff --point=N
    --out=runs/tradeoff/N.npz --epochs=30 --learning_rate=0.1

for every even N from 0 (`:runlocal`, runs/tradeoff_local, --epochs=2 and
--learning_rate=0.05 for the small one); an audit that finds no such file leaves
the accuracy out. Both need `--config.dataset.data_dir=DIR` with CIFAR-10. The
network has GroupNorm, because per-example clipping does not work with
BatchNorm.

`:runlocal` has a perceptron with one hidden layer of 128 ReLUs, two batches of
two images and 1,000 steps.
"""

import json
import pathlib

from giajax.engine import build

_STRENGTHS = (
  dict(name='none'),
  dict(name='gaussian_noise', scale=1e-4),
  dict(name='gaussian_noise', scale=1e-3),
  dict(name='gaussian_noise', scale=1e-2),
  dict(name='laplace_noise', scale=1e-3),
  dict(name='per_example_clipping', clip=1.0),
  dict(
    name='per_example_clipping',
    clip=1.0,
    epsilon=8.0,
    sampling_rate=128 / 50_000,
    rounds=3900,
  ),
  dict(name='pruning', keep=0.1),
  dict(name='pruning', keep=0.01),
  dict(name='quantization', bits=4),
  dict(name='quantization', bits=1),
  dict(name='soteria', fraction=0.5),
  dict(name='precode'),
  dict(name='mixup'),
  dict(name='augmentation'),
)
_NAIVE = ('labels',)
_KNOWING = ('labels', 'defense')


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  local = arg == 'runlocal'
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.update(count=2 if local else 16, batch_size=2)
  config.model = dict(name='resnet18', norm='group')
  if local:
    config.model = dict(name='mlp', widths=(128,))
  config.attack = dict(
    name='inverting_gradients', num_steps=1_000 if local else 24_000
  )
  config.attack.total_variation = 1e-2
  config.noise_controls = 0
  config.sweep = {
    'defense': _STRENGTHS,
    'threat.grants': (_NAIVE, _KNOWING),
  }
  folder = pathlib.Path('runs/tradeoff_local' if local else 'runs/tradeoff')
  found = [_accuracy(folder / f'{2 * i}.json') for i in range(len(_STRENGTHS))]
  config.study = dict(
    claim='Larger noise, stronger clipping and pruning leak less and cost '
    'accuracy; a server that knows the defence gets some of it back.',
    source='The two studies have no such table; each defence names its source',
  )
  if any(a is not None for a in found):
    config.study.columns = {'test accuracy': [a for a in found for _ in '12']}
  return config


def _accuracy(path):
  return json.loads(path.read_text())['accuracy'] if path.is_file() else None
