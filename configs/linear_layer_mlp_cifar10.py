"""The closed form on an MLP, CIFAR-10: exact, from one gradient.

  giajax --config=linear_layer_mlp_cifar10 --workdir=/tmp/linear \
    --config.dataset.data_dir=DIR

Twenty test images, one per update. Phong et al. 2017; Geiping et al. 2020,
proposition 3.1.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two images."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.count = 20
  config.model = dict(name='mlp')
  config.attack = dict(name='linear_layer')
  config.threat = dict(level='C', grants=())
  if arg == 'runlocal':
    config.cases.count = 2
  return config
