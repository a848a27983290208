"""What a client computes from its batch."""

from giajax.clients import fedavg
from giajax.clients import fedsgd

CLIENTS = {'fedavg': fedavg.fedavg, 'fedsgd': fedsgd.fedsgd}
