"""The map: BatchNorm mode x architecture x what the attacker knows.

  giajax --config=studies/batchnorm_map --workdir=/tmp/map          (mode)
  giajax --config=studies/batchnorm_map:PART --workdir=/tmp/map
  giajax --config=studies/batchnorm_map:PART,runlocal --workdir=/tmp/map

After Valadi et al., 2025, arXiv 2508.19819: whether reported successes are
feasible if clients train with BatchNorm in training mode. ResNets with fresh
weights at 32 pixels. PART is one of

  mode          inference or training mode, by Inverting Gradients
  knowledge     in training mode: Inverting Gradients, which knows nothing about
                the batch's statistics, and the attacks that know the buffers
                afterwards (huang), before and after (running), or a proxy batch
                (estimate)
  architecture  in training mode, with the buffers before and after: norm before
                or after the convolution x width x depth x skip connections

The full size needs `--config.dataset.data_dir=DIR` with CIFAR-10. `runlocal`
has photographs, half the width and 500 or 1,000 steps.
"""

from giajax.engine import build

_SOURCE = 'Valadi et al., 2025, arXiv 2508.19819'
_CLAIMS = {
  'mode': 'Inference mode makes inversion dramatically easier.',
  'knowledge': 'The exact statistics of the batch help most, those of a proxy '
  'batch less, and the buffers after the step least.',
  'architecture': 'In training mode an attack succeeds only if the network is '
  'shallow and wide, has skip connections, and normalises before the '
  'convolution.',
}


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes minutes on two cores."""
  words = (arg or 'mode').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'mode')
  if part not in _CLAIMS:
    raise ValueError(
      f'Expected a part among {", ".join(_CLAIMS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  if local:
    config.dataset = dict(name='photographs', size=32)
  config.cases.update(count=2 if local else 16, batch_size=2 if local else 4)
  config.model = dict(name='resnet18', width=0.5 if local else 1.0)
  config.client = dict(name='fedsgd', train_mode=True)
  config.threat = dict(level='D', proxy_images=8)
  config.noise_controls = 0
  steps = 1_000 if local else 10_000
  config.study = dict(claim=_CLAIMS[part], source=_SOURCE)
  if part == 'mode':
    config.attack = dict(name='inverting_gradients', num_steps=steps)
    config.attack.total_variation = 0.01 if local else 0.052
    config.sweep = {
      'client.train_mode': (False, True),
      'cases.batch_size': (1, 2) if local else (1, 4),
    }
    return config
  config.attack = dict(name='running', num_steps=steps)
  config.attack.total_variation = 0.01 if local else 0.052
  if part == 'knowledge':
    config.sweep = {
      'attack.name': ('inverting_gradients', 'huang', 'estimate', 'running')
    }
    return config
  if local:
    config.cases.count, config.attack.num_steps = 1, 500
  config.sweep = {
    'model.placement': ('after', 'before'),
    'model.width': (0.125, 0.5) if local else (0.5, 2.0),
    'model.blocks': ((1, 1, 1, 1), (2, 2, 2, 2)),
    'model.skip': (True, False),
  }
  return config
