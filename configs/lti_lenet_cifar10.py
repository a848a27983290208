"""Learning to Invert on the LeNet of Deep Leakage from Gradients, CIFAR-10.

  giajax train --config=lti_lenet_cifar10 --part=generator --out=lti.npz \
    --epochs=40 --batch_size=256 --config.dataset.data_dir=DIR \
    --config.auxiliary.data_dir=DIR
  giajax --config=lti_lenet_cifar10 --workdir=/tmp/lti \
    --config.attack.generator.path=lti.npz --config.dataset.data_dir=DIR \
    --config.auxiliary.data_dir=DIR

Fifty test images, one per update; `lti_lenet_cifar10:4` has four behind each,
with a network that was trained for four. It learns from the training split.
Weights from U(-0.5, 0.5), which are those of seed 0 in training and in the
audit: another seed needs another network. Wu et al. 2023, arXiv 2210.10880.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two updates, a number is B."""
  config = build.default_config()
  cifar10 = dict(name='tfds', dataset='cifar10', data_dir='')
  config.dataset = dict(**cifar10, split='test')
  config.auxiliary = dict(**cifar10, split='train')
  config.cases.update(count=50, batch_size=1)
  config.model = dict(name='lenet')
  config.attack = dict(
    name='lti', generator=dict(name='lti', path='', hashed=4096, width=1024)
  )
  config.threat = dict(level='D', grants=())
  if arg == 'runlocal':
    config.cases.count = 2
  elif arg:
    config.cases.batch_size = int(arg)
  return config
