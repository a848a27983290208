"""World: what an attacker believes about the system that it attacks."""

from typing import NamedTuple

from giajax.clients import base as clients
from giajax.models import base as models
from giajax.tasks import base as tasks

# The vmapped axis over the restarts of one attacked update.
RESTARTS = 'group'


class World(NamedTuple):
  """What an attacker believes about the system that it attacks.

  Attributes:
    net: the network that the client trains.
    task: the task, for its loss.
    client: what the client computes, as far as the attacker knows.
    batch_size: B, the number of images behind the update.
  """

  net: models.Net
  task: tasks.Task
  client: clients.Client
  batch_size: int
