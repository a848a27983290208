"""What a server may take a client for that is no client of its own."""

from giajax.clients import base


def same(client: base.Client) -> base.Client:
  """The client as it is: the server knows its protocol.

  Args:
    client: the true one, without its defence.
  """
  return client
