"""Your own system: a config to start from, which `giajax init` copies.

  giajax --config=own_system --workdir=runs/own_system

As it stands, it plays a client that trains a small network on photographs, and
attacks its update. Change what follows to describe your system; every key is in
docs/config.md. For an update that your server really received, use the part at
the end, or `giajax audit`, which needs no config.
"""

from giajax.engine import build


def get_config(arg=None):
  """Returns the config of the audit; `runlocal` takes a few steps."""
  config = build.default_config()

  # The network: a row of `giajax --list`, or one of your own, such as
  # 'my_net.py:OurNet', with the arguments that it takes.
  config.model = dict(name='lenet')
  # The weights that the server sends; fresh ones if empty. Untrained weights
  # give away more than trained ones.
  config.weights.path = ''

  # Images like your clients', and how many stand behind one update.
  config.dataset = dict(name='photographs', size=32)
  config.cases = dict(count=2, batch_size=1)

  # What a client does with them: fedsgd sends a gradient, fedavg a change of
  # weights after some epochs. In training, BatchNorm uses its own batch.
  config.client = dict(name='fedsgd', train_mode=True)
  # What protects it, such as dict(name='gaussian_noise', scale=1e-3).
  config.defense = dict(name='none')

  # What the server knows beside the update, see docs/threat_model.md. Labels
  # are found from the update by a rule.
  config.threat = dict(level='C', grants=())
  config.labels = 'idlg'

  # The attack, with more restarts and steps for a result to rely on.
  config.attack = dict(name='inverting_gradients', num_steps=200)
  config.restarts = 4

  # For an update that was received: what was sent is in weights.path, and the
  # images behind it, if you have them, in source.truth.
  # config.dataset = dict(name='unknown', image_shape=(32, 32, 3))
  # config.weights.path = 'sent.npz'
  # config.source = dict(name='captured', received='received.npz')
  # config.cases = dict(count=1, batch_size=1)
  # config.client = dict(name='fedavg', learning_rate=0.1, train_mode=True)

  if arg == 'runlocal':
    config.attack.num_steps = 20
  return config
