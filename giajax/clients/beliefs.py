"""What a server may believe about a client, other than a row of `CLIENTS`."""

from giajax.clients import base


def same(client: base.Client) -> base.Client:
  """The client as it is: the server knows its protocol.

  Args:
    client: the true client, without its defence.
  """
  return client
