"""Tests of the suites: their workloads exist, and so do their peers."""

import pytest

from launch import generative_workload
from launch import suites


@pytest.mark.parametrize('suite', suites.SUITES.values(), ids=suites.SUITES)
def test_every_default_is_a_workload(suite):
  assert suite.names
  for name in suite.names:
    suite.check(name)
  with pytest.raises(ValueError, match=r'^Expected .*nosuch'):
    suite.check('nosuch')


def test_peers_of_suites_are_in_the_checkout():
  scripts = [suite.script for suite in suites.SUITES.values() if suite.script]
  assert len(scripts) == 3
  for script in scripts:
    assert script.is_file(), script


def test_what_a_peer_is_told():
  words = suites.SUITES['main'].words('lenet:8', 'unused')
  assert words == ['--network=lenet', '--batch=8', '--size=32', '--steps=100']
  words = suites.SUITES['zoo'].words('vit_tiny:1:224', 'unused')
  assert words[2:] == ['--size=224', '--steps=3']
  words = suites.SUITES['detection'].words('yolov8n:4:256', 'unused')
  assert words[1:3] == ['--batch=4', '--size=256']
  words = suites.SUITES['generative'].words('lti:lenet', 'a.npz')
  assert words == ['--case=a.npz']


def test_every_generative_workload_has_a_unit():
  kinds = {w.attack['name'] for w in generative_workload.WORKLOADS.values()}
  assert kinds == generative_workload.UNITS.keys()
