"""Two classes of small images that are easily told apart, and who learns."""

import jax
import numpy as np

from giajax.clients import fedsgd
from giajax.data import base as data
from giajax.defenses import base as defenses
from giajax.engine import learning
from giajax.learners import federated
from giajax.models.classification import mlp
from giajax.tasks import classification

_RNG = np.random.default_rng(0)
Y = _RNG.integers(0, 2, 240)
X = _RNG.uniform(size=(240, 3, 3, 1)).astype(np.float32)
# One pixel tells them apart, behind much noise.
X[:, 1, 1, 0] = np.where(Y == 1, 0.9, 0.1)
EASY = data.dataset(
  name='easy',
  image_shape=(3, 3, 1),
  class_names=('dark', 'light'),
  labels=Y,
  note='',
  read=lambda i: X[i],
)
NET = mlp.mlp((3, 3, 1), 2, widths=(8,))
TASK = classification.classification(2)
START = NET.init(jax.random.key(0))


def course(epochs=3, seed=0):
  """Returns passes over the easy images."""
  return learning.Course(EASY, epochs, seed)


def pupil(defense=None, epochs=3, batch_size=20, **settings):
  """Returns a learner of the small network."""
  client = fedsgd.fedsgd(NET, TASK)
  settings = {'learning_rate': 0.5, **settings}
  return federated.federated(
    client if defense is None else defenses.protect(client, defense),
    TASK,
    START,
    num_steps=learning.steps(course(epochs), batch_size),
    batch_size=batch_size,
    **settings,
  )
