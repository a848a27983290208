"""The smallest whole audit: two photographs, a tiny network, seconds.

  giajax --config=smoke --workdir=/tmp/smoke

It shows that everything runs, but nothing about leaks.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; it is small already."""
  del arg
  config = build.default_config()
  config.dataset = dict(name='photographs', size=16)
  config.cases.count = 2
  config.model = dict(name='convnet', width=4)
  config.attack = dict(name='inverting_gradients', num_steps=40)
  config.attack.total_variation = 1e-3
  config.restarts = 2
  config.records = 8
  return config
