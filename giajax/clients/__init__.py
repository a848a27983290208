"""What a client computes from its batch."""

from giajax.clients import fedsgd

CLIENTS = {'fedsgd': fedsgd.fedsgd}
