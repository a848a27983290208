"""What a client computes from its batch, and what a server believes of it."""

import functools

from giajax.clients import beliefs
from giajax.clients import fedavg
from giajax.clients import fedsgd

CLIENTS = {'fedavg': fedavg.fedavg, 'fedsgd': fedsgd.fedsgd}
# A server that does not know the protocol may believe in a single gradient.
BELIEFS = {
  **CLIENTS,
  'one_gradient': functools.partial(fedavg.fedavg, learning_rate=1.0),
  'same': beliefs.same,
}
