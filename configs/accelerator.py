"""The audits of the accelerator kit, which runs them on whatever JAX finds.

  giajax --config=accelerator --workdir=DIR            (attack)
  giajax --config=accelerator:PART --workdir=DIR
  giajax --config=accelerator:PART,runlocal --workdir=DIR

PART is one of

  attack     SAPAG on DLG's LeNet, four photographs, one per update. Its steps
             are smooth, so that roundings do not grow: it ends within 0.1 dB
             of the same wherever it runs. Signed steps do grow them.
  precision  DLG on the same network, which ends at 40 dB or more where products
             are exact, swept over the precisions of the attacker.
  figure     Inverting Gradients on an untrained ResNet-18, 24,000 steps and
             batches of 1 to 64: a curve of Guo et al., TPAMI 2025, arXiv
             2503.11514. It takes `--config.dataset.data_dir=DIR`, CIFAR-10 as
             prepared by tfds.

`runlocal` takes seconds on two cores: fewer steps, a narrow network,
photographs.
"""

from giajax.engine import build

_PARTS = ('attack', 'precision', 'figure')


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes seconds on two cores."""
  words = (arg or 'attack').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'attack')
  if part not in _PARTS:
    raise ValueError(
      f'Expected a part among {", ".join(_PARTS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.dataset = dict(name='photographs', size=32)
  config.model = dict(name='lenet')
  config.noise_controls = 0
  make = {'attack': _attack, 'precision': _precision, 'figure': _figure}[part]
  make(config, local)
  return config


def _attack(config, local):
  config.cases.count = 1 if local else 4
  config.attack = dict(name='sapag', num_steps=100 if local else 2_000)


def _precision(config, local):
  config.cases.count = 1 if local else 4
  config.attack = dict(name='dlg', num_steps=100 if local else 2_500)
  config.threat = dict(level='C', grants=())
  config.restarts = 2
  config.sweep = {'precision': ('full', 'tensorfloat32', 'bfloat16')}


def _figure(config, local):
  if not local:
    config.dataset = dict(
      name='tfds', dataset='cifar10', split='test', data_dir=''
    )
  config.cases.count = 2 if local else 16
  config.model = dict(name='resnet18', width=0.125 if local else 1.0)
  config.attack = dict(
    name='inverting_gradients',
    num_steps=50 if local else 24_000,
    total_variation=1e-2,
  )
  batches = (1, 4) if local else (1, 4, 8, 16, 32, 64)
  config.sweep = {'cases.batch_size': batches}
