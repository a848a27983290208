"""Tests of what the page says of one's own system, and what it leaves out."""

import json

import captures
import numpy as np
import pytest
import tiny

from giajax.engine import run as engine
from giajax.metrics import success
from giajax.report import prose
from giajax.report import redaction
from giajax.report import remedies
from giajax.report import report
from giajax.report import summary
from giajax.results import collection
from giajax.results import rows as result_rows


@pytest.fixture(scope='module')
def scored(tmp_path_factory):
  """Returns the workdir of a captured update whose image is known."""
  return _audited(tmp_path_factory, attack={'name': 'linear_layer'})


@pytest.fixture(scope='module')
def unscored(tmp_path_factory):
  """Returns the workdir of a captured update of an unknown image."""
  return _audited(tmp_path_factory, source={'truth': ''})


def _audited(factory, **changes):
  folder = factory.mktemp('page')
  captures.write(folder)
  config = captures.config(folder, **changes)
  if 'attack' in changes:
    config.labels = 'granted'
  engine.audit(config, folder / 'run', finish=report.write)
  return folder / 'run'


def _page(folder):
  return (folder / 'report.html').read_text(encoding='utf-8')


def test_scored_capture(scored):
  page = _page(scored)
  assert 'The image came back recognisably: this update leaks.' in page
  assert 'Whoever receives such an update can look at' in page
  assert 'run giajax advise on its results' in page  # not on this update
  assert 'case 0, leaks: PSNR' in page
  assert 'attacks tried' in page and 'updates attacked' not in page


def test_unscored_capture(unscored):
  page = _page(unscored)
  assert 'so look at what came back.' in page
  assert 'the attack says: ' in page and 'from noise' in page
  assert 'Let a client of your own send an update' in page
  assert 'the true labels' not in page.partition('What was withheld')[0]


def test_redacted_page_shows_no_image(scored, tmp_path):
  plain = _page(scored)
  page = report.write(scored, redact=True).read_text(encoding='utf-8')
  assert '>original<' in plain and '>original<' not in page
  assert 'case 0, leaks: PSNR' in page  # the numbers stay
  run = collection.read(scored)
  with run.arrays:
    arrays = redaction.Redacted(run.arrays)
    key = result_rows.key(0, 'x_hat')
    assert result_rows.key(0, 'x') not in arrays and key in arrays
    with pytest.raises(KeyError):
      arrays[result_rows.key(0, 'x')]
    image = arrays[key][0]
    assert len(np.unique(image.reshape(-1, 3), axis=0)) <= 16
    assert len(np.unique(run.arrays[key][0].reshape(-1, 3), axis=0)) > 100
    assert len(arrays) == len([*arrays]) < len(run.arrays)
  # The next report is as the last one, unless somebody says otherwise.
  assert '>original<' not in report.write(scored).read_text(encoding='utf-8')
  report.write(scored, redact=False)
  assert '>original<' in _page(scored)


@pytest.mark.parametrize(('side', 'blocks'), [(7, 4), (12, 4), (32, 4), (4, 2)])
def test_coarse_pictures_have_few_colours(side, blocks):
  image = np.random.default_rng(0).uniform(size=(1, side, side, 3))
  coarse = redaction.coarse(image)
  assert len(np.unique(coarse.reshape(-1, 3), axis=0)) == blocks**2


def test_summary_of_a_scored_run(scored):
  found = json.loads((scored / 'summary.json').read_text())
  assert found['schema'] == 1 and found['verdict'] == 'leaks'
  assert found['worst']['psnr'] > 40 and found['worst']['image'] == 0
  assert found['psnr']['median'] == pytest.approx(found['worst']['psnr'])
  assert found['psnr']['low'] is None  # of one image
  assert found['hash'] and found['inputs'] and found['date']
  (row,) = result_rows_of(scored)
  assert summary.exit_code([row], 'partial') == 1
  assert summary.exit_code([row], 'leaks') == 1
  assert summary.exit_code([row], '') == 0
  assert summary.exit_code([{**row, 'verdict': 'partial'}], 'leaks') == 0
  assert summary.exit_code([{**row, 'verdict': 'unscored'}], 'partial') == 0
  # A gate is not open because nothing was tested.
  assert summary.exit_code([{**row, 'verdict': 'untested'}], 'leaks') == 1


def result_rows_of(folder):
  lines = (folder / 'results.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_summary_of_an_unscored_run(unscored):
  found = json.loads((unscored / 'summary.json').read_text())
  assert found['verdict'] == 'unscored' and found['psnr'] is None
  assert 'psnr' not in found['worst']
  assert 'times as large' in found['checks'][0]


def test_thresholds_that_cannot_be_judged():
  unknown = {'source': {'name': 'captured'}}
  known = {'source': {'name': 'captured', 'truth': 'truth.npz'}}
  summary.check_threshold('', unknown)
  for config in (known, {}, {'source': {'name': 'simulated'}}):
    summary.check_threshold('leaks', config)
  with pytest.raises(ValueError, match='Expected --truth'):
    summary.check_threshold('leaks', unknown)
  with pytest.raises(ValueError, match='leaks, partial'):
    summary.check_threshold('resists', known)


@pytest.mark.parametrize('name', remedies.FINDINGS)
def test_findings_are_whole(name):
  finding = remedies.FINDINGS[name]
  assert finding.severity in ('high', 'medium', 'low')
  for text in (finding.meaning, finding.remedy, finding.cost):
    assert text.endswith('.'), text
  row = {'verdict': 'resists', 'setting_reasons': [], 'labels_recovered': 0.5}
  assert not finding.applies([row])
  shown = (
    *({'verdict': word} for word in success.WORDS),
    *({'setting_reasons': [reason]} for reason in (name, 'untrained weights')),
    {'labels_recovered': 1.0},
  )
  assert any(finding.applies([{**row, **change}]) for change in shown)


@pytest.mark.parametrize(
  ('trace', 'falling'),
  [
    ([1.0, 0.9, 0.8, 0.7, 0.6], True),
    # Noise is not taken for a fall.
    ([1.0, 0.6, 0.9, 0.9, 0.5, 0.9, 0.5, 0.8, 0.5, 0.7], False),
    ([1.0, 0.5, 0.41, 0.4, 0.4], False),
    ([-1.0, -1.1, -1.2, -1.4, -1.6], True),
    ([1.0], False),
    ([], False),
    ([1.0, 0.9, np.nan, np.nan, np.nan], False),
  ],
)
def test_objectives_that_still_fall(scored, trace, falling):
  run = _traced(scored, trace)
  assert prose._is_falling(run, run.rows[0]) == falling
  said = any('unfinished' in text for text in prose.caveats(run))
  assert said == falling


def _traced(folder, trace, end=1.0):
  """Returns a run with an objective, whose rate falls after a share of it."""
  run = collection.read(folder)
  arrays = {
    result_rows.key(0, 'trace'): np.float32([[9.0] * len(trace), trace]),
    result_rows.key(0, 'trace_step'): np.arange(1, len(trace) + 1),
    result_rows.key(0, 'chosen'): np.int32(1),
    result_rows.key(0, 'psnr'): np.ones(1),
    result_rows.key(0, 'ssim'): np.ones(1),
  }
  run.arrays.close()
  rows = [{**run.rows[0], 'steps': len(trace)}]
  steady = {'0': {'begin': 0.0, 'end': end}}
  meta = {**run.meta, 'steady': steady}
  return run._replace(arrays=arrays, rows=rows, meta=meta)


@pytest.mark.parametrize(
  ('decay', 'noise', 'falling'),
  [(1.0, 0.0, True), (1.0, 0.03, True), (0.0, 0.2, False), (0.2, 0.0, False)],
)
def test_lower_rates_do_not_hide_a_fall(scored, decay, noise, falling):
  """The objective is t^-decay until the rate falls, and then almost flat."""
  t = np.arange(1, 81)
  values = np.minimum(t, 30.0) ** -decay * (1 + 0.001 * (80 - t) / 80)
  draws = np.random.default_rng(0).uniform(-1, 1, 80)
  values[:30] *= 1 + noise * draws[:30]
  values[30:] *= 0.6  # without the noise of large steps
  run = _traced(scored, values, end=3 / 8)
  assert prose._is_falling(run, run.rows[0]) == falling
  hidden = _traced(scored, values)  # nobody knows when the rate falls
  assert not prose._is_falling(hidden, hidden.rows[0])


def test_a_real_attack_that_is_too_short(tmp_path):
  config = tiny.config(
    model={'name': 'lenet'},
    attack={'name': 'inverting_gradients', 'num_steps': 50},
    attack__total_variation=0.002,
    records=50,
    noise_controls=0,
    cases__count=1,
  )
  engine.audit(config, tmp_path / 'run')
  run = collection.read(tmp_path / 'run')
  with run.arrays:
    (row,) = run.rows
    trace = collection.array(run, row, 'trace')
    values = trace[int(collection.array(run, row, 'chosen'))]
    assert values[-1] > 0.9 * values[-11]  # the end alone looks finished
    assert prose._is_falling(run, row)
