"""Tests of the list of malicious servers."""

from giajax.attacks import ATTACKS
from giajax.verify.calibration import honest_models
from giajax.verify.calibration import malicious_servers


def test_every_attack_is_listed():
  assert not malicious_servers.unlisted(ATTACKS)
  more = {**ATTACKS, 'unheard_of': None}
  assert malicious_servers.unlisted(more) == ['unheard_of']
  for server in malicious_servers.SERVERS.values():
    assert server.attack['name'] in ATTACKS
    assert set(server.networks) <= set(honest_models.FRESH)
    assert server.attack['name'] not in malicious_servers.HONEST
