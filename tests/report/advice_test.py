"""Tests of the report's advice."""

import pytest

from giajax.report import advice

AUDITED = dict(
  psnr=24.0,
  ssim=0.9,
  recognised=8,
  images=8,
  updates=8,
  recovered=True,
  seconds_per_image=0.01,
  audited_seconds_per_image=0.01,
  parameters=1000,
  fidelity=1.0,
)
LIKELY, RARE = 0.4, 0.002


def _change(name, gain=0.0, chance=RARE, stage='protocol', **facts):
  return {
    **AUDITED,
    'name': name,
    'stage': stage,
    'title': name,
    'overrides': {},
    'gain': gain,
    'chance': chance,
    'paired': True,
    'psnr': AUDITED['psnr'] + gain,
    **facts,
  }


@pytest.mark.parametrize(
  'facts, word',
  [
    (dict(gain=-3.1), 'helps'),
    (dict(gain=-0.1, recognised=7), 'helps'),
    (dict(gain=-1.5), 'helps a little'),
    (dict(gain=-0.5), 'negligible'),
    (dict(gain=1.5), 'leaks more'),
    # Of sixteen images eight came back, and before all.
    (dict(gain=-0.1, images=16), 'helps'),
    # However large, what chance explains is no effect.
    (dict(gain=-9.0, chance=LIKELY, recognised=0), 'no more than chance'),
    (dict(gain=-9.0, chance=None), 'too few updates to tell'),
  ],
)
def test_words_for_an_effect(facts, word):
  assert advice.effect(AUDITED, _change('A', **facts)) == word


def test_where_nothing_came_back_nothing_helps():
  nothing = {**AUDITED, 'recognised': 0, 'recovered': False}
  for facts in (dict(), dict(chance=None), dict(chance=LIKELY)):
    change = _change('A', gain=-9.0, recognised=0, **facts)
    assert advice.effect(nothing, change) == 'nothing to take away'
  assert advice.effect(nothing, _change('A', gain=9.0)) == 'leaks more'


def test_section_orders_by_effect_and_shows_what_was_not_tried():
  changes = [
    _change('Chance', gain=-20.0, chance=LIKELY),
    _change('Weak', gain=-1.5),
    _change('Strong <b>', gain=-15.0, recognised=0, seconds_per_image=0.04),
    dict(name='x', stage='network', title='None', reason='Expected y; got z'),
  ]
  record = {'audited': AUDITED, 'changes': changes, 'command': 'c'}
  text = advice.section(record)
  assert '1 of 3 changes helped' in text and 'from 24.0 to 9.0 dB' in text
  order = ['As audited', 'Strong &lt;b&gt;</div>', 'Weak</div>', 'Chance</div>']
  places = [text.index(name) for name in order]
  assert places == sorted(places)
  assert '×4' in text and 'None: Expected y; got z' in text
  assert 'p = 0.002' in text and 'p = 0.4' in text
  assert 'accuracy' not in text
  trained = [_change('A', accuracy=0.5)]
  text = advice.section({'audited': AUDITED, 'changes': trained})
  assert 'accuracy' in text and '50%' in text


_CHECKED = dict(
  honest=False,
  checks=15,
  models=4,
  refused=3,
  evidence={'sign_split': 'Layer <a> is split.'},
  agreed={},
  seconds=0.5,
)


def test_what_checks_say():
  record = {'audited': AUDITED, 'changes': [], 'validation': _CHECKED}
  text = advice.section(record)
  assert 'object to 3 of 4 models' in text and 'Layer &lt;a&gt;' in text
  assert 'no check protects' not in text and 'say nothing' not in text
  record['validation'] = {**_CHECKED, 'agreed': {'scale': 'Large.'}}
  assert 'as well, by scale: those checks say nothing' in advice.section(record)
  record['validation'] = {**_CHECKED, 'honest': True}
  assert 'no check protects from it' in advice.section(record)


def test_checks_that_were_not_run():
  record = {'audited': AUDITED, 'changes': [], 'validation': {'reason': 'Why.'}}
  assert 'Not tried: Why.' in advice.section(record)


def test_nothing_to_advise():
  nothing = {**AUDITED, 'recognised': 0, 'recovered': False}
  idle = _change('A', gain=-2.0, recognised=0, recovered=False)
  text = advice.section({'audited': nothing, 'changes': [idle]})
  assert 'recovered nothing' in text and 'More came back' not in text
  more = _change('A', gain=9.0)
  text = advice.section({'audited': nothing, 'changes': [more]})
  assert 'More came back after 1 change.' in text
  text = advice.section({'audited': AUDITED, 'changes': [_change('A')]})
  assert 'None of 1 change lowered the PSNR' in text
  few = {**AUDITED, 'updates': 2}
  text = advice.section(
    {'audited': few, 'changes': [_change('A', chance=None)]}
  )
  assert '2 updates cannot tell an effect from chance' in text


def test_figures_of_an_earlier_version_are_not_read():
  old = {k: v for k, v in _change('A').items() if k != 'chance'}
  text = advice.section({'audited': AUDITED, 'changes': [old]})
  assert 'Run giajax advise again' in text and '<table' not in text
