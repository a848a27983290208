"""How batch size protects: Inverting Gradients against 1, 2, 4, 8 images.

  giajax --config=sweeps/batch_size --workdir=/tmp/batch_size

Photographs, a fresh ConvNet in inference mode, labels known, three batches per
point.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` has two points and few steps."""
  config = build.default_config()
  config.dataset = dict(name='photographs', size=32)
  config.cases.count = 3
  config.model = dict(name='convnet', width=16)
  config.attack = dict(name='inverting_gradients', num_steps=600)
  config.attack.total_variation = 1e-3
  config.restarts = 2
  config.sweep = {'cases.batch_size': (1, 2, 4, 8)}
  if arg == 'runlocal':
    config.cases.count = 1
    config.model.width = 4
    config.attack.num_steps = 40
    config.sweep = {'cases.batch_size': (1, 2)}
  return config
