"""Ten thousand updates: what a point costs beside its steps.

  giajax --config=sweeps/ten_thousand --workdir=W

Inverting Gradients on LeNet and photographs of 16 pixels: 250 learning rates
and 4 weights of total variation, which share one program, times 10 seeds, which
share it too. 5 restarts of 20 steps are a million restart-steps in all. The
column `seconds_per_update` has the time of the steps; the rest of the command's
is what reading, scoring, writing and reporting cost.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the experiment; `runlocal` has 40 points."""
  local = arg == 'runlocal'
  config = build.default_config()
  config.dataset = dict(name='photographs', size=16)
  config.cases.count = 1
  config.model = dict(name='lenet', activation='sigmoid')
  config.restarts = 5
  config.noise_controls = 0
  config.attack = dict(name='inverting_gradients', num_steps=20)
  config.sweep = {
    'seed': tuple(range(2 if local else 10)),
    'attack.learning_rate': {
      'low': 0.01,
      'high': 1.0,
      'scale': 'log',
      'count': 5 if local else 250,
    },
    'attack.total_variation': (1e-3, 3e-3, 1e-2, 3e-2),
  }
  return config
