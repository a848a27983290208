"""Eight photographs, one gradient each: what does the server see?

  giajax --config=quickstart --workdir=/tmp/audit

Inverting Gradients against a fresh ConvNet in inference mode, one photograph
an update, labels known: the setting of the literature, an upper bound.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` is a tenth of it."""
  config = build.default_config()
  config.dataset = dict(name='photographs', size=32)
  config.cases.count = 8
  config.model = dict(name='convnet', width=32)
  config.attack = dict(name='inverting_gradients', num_steps=600)
  config.hparams = dict(total_variation=1e-3)
  config.restarts = 2
  if arg == 'runlocal':
    config.cases.count = 2
    config.attack.num_steps = 60
  return config
