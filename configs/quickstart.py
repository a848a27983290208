"""Eight photographs, one gradient each: what does the server see?

  giajax --config=quickstart --workdir=/tmp/audit

Deep Leakage from Gradients (Zhu, Liu and Han 2019, arXiv 1906.08935) on its own
LeNet: one photograph per update, labels unknown. The network is small and its
weights are fresh, so the result is an upper bound. It repeats the experiment
that started the field.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` attacks two photographs, briefly."""
  config = build.default_config()
  config.seed = 149  # draws eight different photographs
  config.dataset = dict(name='photographs', size=32)
  config.cases.count = 8
  config.model = dict(name='lenet')
  config.attack = dict(name='dlg', num_steps=1600, memory_size=200)
  config.threat = dict(level='C', grants=())
  config.restarts = 2
  if arg == 'runlocal':
    config.cases.count = 2
    config.attack.num_steps = 60
  return config
