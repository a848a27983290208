"""Tests of the report, on workdirs made up here."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from giajax.report import report
from giajax.report import sorting
from giajax.results import collection
from giajax.results import columns
from giajax.results import stacks


def _arrays(rng, b, c, r, length, size):
  x = rng.uniform(size=(b, size, size, c)).astype(np.float32)
  return {
    'x': x,
    'y': np.arange(b),
    'x_hat': np.clip(x + 0.02 * rng.normal(size=x.shape), 0, 1),
    'y_hat': np.zeros(b, int),
    'x_start': rng.uniform(size=x.shape).astype(np.float32),
    'psnr': np.full(b, 25.0),
    'ssim': np.full(b, 0.9),
    'scores': np.full(r, 0.1),
    'finite': np.ones(r, bool),
    'chosen': np.int64(r - 1),
    'trace': rng.uniform(1.0, 1.01, size=(r, length)),
    'trace_step': 10 * np.arange(length),
  }


def _row(number, point, case, **changes):
  empty = {int: 0, float: None, str: '', bool: False, list: [], dict: {}}
  row = {name: empty[column.kind] for name, column in columns.COLUMNS.items()}
  row |= {
    'row': number,
    'point': point,
    'case': case,
    'sweep': {'config.noise': 10.0**-point},
    'attack': 'ig',
    'model': 'convnet',
    'dataset': 'photographs',
    'batch_size': 2,
    'restarts': 3,
    'steps': 20,
    'setting': 'diagnostic',
    'setting_reasons': ['inference-mode client', 'a <new> reason'],
    'score': 0.1,
    'mse': 0.003,
    'psnr': 25.0,
    'ssim': 0.9,
    'lpips': 0.125,
    'labels_recovered': 0.5,
    'labels_matched': 0.25,
    'psnr_oracle': 26.5,
    'baselines': {'mean_image': {'psnr': 11.0, 'ssim': 0.1}},
    'finite_restarts': 3,
    'seconds_per_update': 1.5,
    'verdict': 'leaks',
  }
  return row | changes


def _workdir(
  path, points=1, cases=1, b=2, c=3, r=3, length=5, size=8, meta=(), **changes
):
  rng = np.random.default_rng(0)
  config = {
    'config': {'client': {'name': 'fedsgd'}, 'defense': ['noise']},
    'hash': 'abc123',
    'card': 'A card.',
    'command': 'giajax --config=a.py',
    'versions': {'jax': '0.10'},
    'device': 'cpu x2',
    'threat': {
      'level': 'B',
      'grants': {'labels': 'the labels of the batch'},
      'withheld': {'buffers': 'the running statistics'},
    },
  }
  path.mkdir(parents=True, exist_ok=True)
  rows = [(p, k) for p in range(points) for k in range(cases)]
  (path / 'config.json').write_text(json.dumps(config | dict(meta)))
  (path / 'results.jsonl').write_text(
    ''.join(
      json.dumps(_row(i, p, k, **changes)) + '\n'
      for i, (p, k) in enumerate(rows)
    )
  )
  arrays = {i: _arrays(rng, b, c, r, length, size) for i in range(len(rows))}
  np.savez(path / 'recon.npz', **stacks.block(0, arrays))
  return path


def _change(path, **changes):
  """Changes arrays of the first row, or adds some to it alone."""
  with np.load(path / 'recon.npz') as file:
    arrays = dict(file)
  for name, value in changes.items():
    if f'0000/{name}' in arrays:
      arrays[f'0000/{name}'][0] = value
    else:
      arrays[f'0000/{name}'] = np.asarray(value)[None]
      arrays[f'0000/{name}/row'] = np.zeros(1, int)
  np.savez(path / 'recon.npz', **arrays)


def _html(path):
  html = report.write(path).read_text(encoding='utf-8')
  own = f'<script>{sorting.SCRIPT}</script>'
  assert html.count(own) == 1
  return html.replace(own, '')


def test_page_says_all_there_is_to_say(tmp_path):
  html = _html(_workdir(tmp_path))
  for text in (
    'All 2 images came back recognisably: this update leaks.',
    'Level B of A to H (Carletti et al., 2025), informed: the attacker has',
    'the labels of the batch',
    'the running statistics',
    'Layers such as BatchNorm used stored statistics',
    'a &lt;new&gt; reason',
    'an upper bound on what this attack finds',
    '<td>50%</td><td>25%</td>',  # labels
    'Mean image of the data set',
    'class="badge">oracle',
    '3 restarts in all; none ended',
    'A card.',
    'giajax --config=a.py',
    'abc123',
    'fedsgd',
    'class 1, taken for class 0',
  ):
    assert text in html, text
  names = {p.name for p in (tmp_path / 'figures').iterdir()}
  assert names == {'reconstructions.png', 'curves.png'}


def test_scores_of_the_images_and_their_intervals(tmp_path):
  means = {'psnr': 11.0, 'ssim': 0.1, 'cw_ssim': 0.3}
  path = _workdir(
    tmp_path,
    b=8,
    cw_ssim=0.7,
    fmse=1e-4,
    iip=0.5,
    iip_chance=0.0625,
    rdlv=None,
    baselines={'mean_image': means, 'start': means},
  )
  assert 'to' not in _cells(_html(path), 'Mean image')  # one row, one value
  kept = np.ones((2, 3, 8))
  kept[0, 0] = np.arange(10, 18)
  _change(
    path,
    baselines=kept,
    psnr=np.arange(16.0, 24.0),
    iip=np.array([1, 1, 1, 0, *[np.nan] * 4]),
    cw_ssim=np.array([0.5] * 7 + [np.nan]),
  )
  html = _html(path)
  found = _cells(html, 'Recovered')
  assert '19.50' in found and '75%' in found  # 18 dB and more: six of eight
  assert '1 of 8 not finite' in found
  mean = _cells(html, 'Mean image')
  assert re.search(r'13\.50.*1[0-3]\.\d\d to 1[4-7]\.\d\d', mean)
  assert '<dt>IIP by chance</dt>' in html and '<td>6%</td>' in html
  assert '<dt>FMSE</dt>' in html
  assert 'RDLV' not in html  # a column without a value
  assert 'arXiv:2104.07586' in html  # the source of IIP


def _cells(html, name):
  """Returns the line of the summary that begins with a name."""
  return re.search(f'{name}.*?</tr>', html[html.index('The numbers') :])[0]


def test_what_was_known_before_is_shown_beside_what_came_back(tmp_path):
  means = {'psnr': 11.0, 'ssim': 0.1}
  names = 'class_sample', 'nearest_auxiliary'
  path = _workdir(
    tmp_path, points=2, baselines=dict.fromkeys(names, means), size=16
  )
  before = _html(path)
  assert 'nearest auxiliary' not in before and 'auxiliary data' not in before
  with np.load(path / 'recon.npz') as arrays:
    x = arrays['0000/x'][0]
  _change(path, x_class_sample=x, x_nearest_auxiliary=1 - x)  # of one point
  meta = json.loads((path / 'config.json').read_text())
  meta['config']['auxiliary'] = dict(name='tfds', dataset='cifar10', split='a')
  (path / 'config.json').write_text(json.dumps(meta))
  html = _html(path)
  assert '<dt>auxiliary data</dt><dd>tfds cifar10 a</dd>' in html
  for text in ('random sample', 'nearest auxiliary', 'without the update'):
    assert text in html, text
  for text in ('A random image of the generator', 'of up to 10,000 auxiliary'):
    assert text in before and text in html
  assert html.count('<img') == before.count('<img') + 4  # two images, twice


def test_page_needs_no_other_file(tmp_path):
  html = _html(_workdir(tmp_path, points=2))
  sources = re.findall(r'(?:src|href)="([^"]{0,20})', html)
  assert sources
  assert all(s.startswith('data:image/') for s in sources)
  assert 'url(' not in html
  assert '<script' not in html


@pytest.mark.parametrize(
  'shape',
  [
    {'b': 1, 'c': 1, 'r': 1, 'length': 1},
    {'b': 1, 'r': 1, 'length': 0},
    {'b': 64, 'c': 1, 'size': 6},
    {'b': 1, 'size': 224},
    {'points': 3, 'cases': 2},
    {'points': 20, 'b': 1, 'length': 1},
    {'baselines': {}},
    {'lpips': None, 'psnr_oracle': None, 'score': None},
    {'psnr': math.nan, 'ssim': None, 'mse': math.inf, 'verdict': 'odd'},
    {'meta': {'threat': {'level': None, 'grants': {}, 'withheld': {}}}},
    {'meta': {'threat': None, 'card': None, 'versions': None}},
    {'setting': 'deployment', 'setting_reasons': []},
  ],
  ids=str,
)
def test_shapes_and_gaps(tmp_path, shape):
  html = _html(_workdir(tmp_path, **shape))
  assert 'nan' not in re.sub(r'base64,[^"]*', '', html).lower()
  assert 'None' not in html.replace('"None"', '')
  assert 1 <= html.count('<figure>') <= collection.SAMPLE_LIMIT


def test_same_files_same_bytes(tmp_path):
  path = _workdir(tmp_path, points=2, cases=2)
  report.write(path)
  files = [path / 'report.html', *(path / 'figures').glob('*')]
  assert len(files) == 4
  first = [f.read_bytes() for f in files]
  report.write(path)
  assert first == [f.read_bytes() for f in files]


def test_everything_is_escaped(tmp_path):
  evil = '<script>alert("&")</script>\x1b[2J\udce9'
  meta = {
    'card': evil,
    'command': evil,
    'device': evil,
    'hash': evil,
    'versions': {evil: evil},
    'config': {evil: evil, 'client': evil},
    'class_names': [evil],
    'threat': {'level': evil, 'grants': {evil: evil}, 'withheld': {evil: evil}},
  }
  path = _workdir(
    tmp_path,
    points=2,
    meta=meta,
    attack=evil,
    model=evil,
    verdict=evil,
    setting_reasons=[evil],
    baselines={evil: {'psnr': 1.0}},
  )
  rows = (path / 'results.jsonl').read_text().replace('config.noise', '$<b>$')
  (path / 'results.jsonl').write_text(rows)
  html = _html(path)
  assert '<script' not in html
  assert '<b>' not in html
  assert '\x1b' not in html and '\\x1b[2J\\udce9' in html
  assert '&lt;script&gt;' in html


def test_lost_restarts_are_counted(tmp_path):
  path = _workdir(tmp_path)
  trace = np.ones((3, 5))
  trace[0, 2:] = np.nan
  _change(path, finite=np.array([False, True, True]), trace=trace)
  assert '1 ended in a value that is not finite' in _html(path)


def test_no_restart_left(tmp_path):
  path = _workdir(tmp_path, psnr=None, ssim=None, verdict='resists')
  _change(
    path,
    finite=np.zeros(3, bool),
    trace=np.full((3, 5), np.nan),
    x_hat=np.full((2, 8, 8, 3), np.nan),
    psnr=np.full(2, np.nan),
    ssim=np.full(2, np.nan),
  )
  html = _html(path)
  assert 'None of 2 images came back recognisably' in html
  assert 'recovered (not finite)' in html
  assert 'no proof against a stronger one' in html
  assert 'upper bound' not in html  # of what, as nothing came back


def test_sweep_has_a_plot_and_its_end_removes_it(tmp_path):
  html = _html(_workdir(tmp_path, points=3))
  assert 'Over noise' in html
  assert (tmp_path / 'figures/sweep.png').exists()
  report.write(_workdir(tmp_path))
  assert not (tmp_path / 'figures/sweep.png').exists()


@pytest.mark.parametrize(
  'values',
  [
    [0.0, 1e-3, 1e-1],
    [1, 8, 64],
    ['resnet18', 'vit', 'vit'],
    [None, 1.0, 2.0],
    [True, False, True],
    [-1.0, 0.0, 1.0],
    [[1, 2], [3], {'a': 1}],
    ['caf\udce9', 'tea\x1b[2J', {'name': 'mat\xe9\udce9'}],
  ],
  ids=ascii,
)
def test_any_sweep_value(tmp_path, values):
  path = _workdir(tmp_path, points=3)
  lines = (path / 'results.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  for i, (row, value) in enumerate(zip(rows, values)):
    row['sweep'] = {'config.a': value, 'config.b': i % 2}
  (path / 'results.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  assert 'Over a, b' in _html(path)


def test_sample_is_seeded_bounded_and_blind_to_metrics(tmp_path):
  path = _workdir(tmp_path, b=40)
  run = collection.read(path)
  with run.arrays:
    first = [item.index for item in collection.sample(run)]
  _change(path, psnr=np.arange(40.0), ssim=np.linspace(0, 1, 40))
  run = collection.read(path)
  with run.arrays:
    assert [item.index for item in collection.sample(run)] == first
  assert len(set(first)) == collection.SAMPLE_LIMIT
  assert 'a sample, not the best' in _html(path)


@pytest.mark.parametrize(
  ('b', 'text'), [(1, 'The one image.'), (16, 'All 16 images of the run.')]
)
def test_whole_runs_are_no_sample(tmp_path, b, text):
  assert text in _html(_workdir(tmp_path, b=b, length=1))


def test_sample_shows_the_same_slots_at_every_point(tmp_path):
  run = collection.read(_workdir(tmp_path, points=4, cases=2, b=5))
  slots: dict[int, list] = {}
  with run.arrays:
    for row, index in collection.sample(run):
      slots.setdefault(row['point'], []).append((row['case'], index))
  assert len(slots) == 4
  assert all(s == slots[0] and len(s) == 4 for s in slots.values())


def test_verdict_of_mixed_updates_and_of_a_contradiction(tmp_path):
  path = _workdir(tmp_path, cases=2)
  text = (path / 'results.jsonl').read_text()
  (path / 'results.jsonl').write_text(text.replace('leaks', 'resists', 1))
  assert 'of 2 updates, 1 leaks, 1 resisted this attack.' in _html(path)
  path = _workdir(tmp_path, verdict='resists')
  assert 'yet by the medians this update resisted' in _html(path)


def test_recognised_by_the_thresholds_of_the_verdict(tmp_path):
  path = _workdir(tmp_path, baselines={'start': {'psnr': 24.5}})
  assert 'None of 2 images' in _html(path)
  _change(path, psnr=np.array([30.0, 25.0]))
  assert '1 of 2 images' in _html(path)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (dict(labels_recovered=1.0), 'Every label of the batch was recovered.'),
    (
      dict(labels_recovered=1.0, cases=2),
      'Every label of all batches was recovered.',
    ),
    (dict(labels_recovered=1.0, batch_size=1), 'The label was recovered.'),
    (dict(labels_recovered=0.9), None),
    (dict(labels_recovered=None), None),
    (dict(labels_recovered=1.0, labels_granted=True), None),
  ],
)
def test_labels_make_a_headline_of_their_own(tmp_path, changes, words):
  html = _html(_workdir(tmp_path, **changes))
  assert words in html if words else 'was recovered' not in html
  assert ('>granted<' in html) == bool(changes.get('labels_granted'))


def test_an_update_that_tests_nothing_is_no_resistance(tmp_path):
  path = _workdir(tmp_path, verdict='untested', degenerate='the update is zero')
  _change(path, psnr=np.full(2, 11.0), ssim=np.full(2, 0.1))
  html = _html(path)
  assert 'this update tested nothing.' in html
  assert 'Nothing was tested where the update is zero' in html
  assert 'resist' not in html.split('</style>')[1]


@pytest.mark.parametrize('name', ['config.json', 'results.jsonl', 'recon.npz'])
def test_missing_file(tmp_path, name):
  (_workdir(tmp_path) / name).unlink()
  with pytest.raises(ValueError, match=f'Expected .* got no file .*{name}'):
    report.write(tmp_path)


@pytest.mark.parametrize('name', ['config.json', 'recon.npz'])
@pytest.mark.parametrize('part', [0.0, 0.5])
def test_torn_file(tmp_path, name, part):
  path = _workdir(tmp_path) / name
  content = path.read_bytes()
  path.write_bytes(content[: int(part * len(content))])
  words = 'a torn file|a whole npz'
  with pytest.raises(ValueError, match=f'^Expected .*({words})') as error:
    report.write(tmp_path)
  assert '\n' not in str(error.value)


def test_damage_inside_the_archive(tmp_path):
  path = _workdir(tmp_path) / 'recon.npz'
  content = bytearray(path.read_bytes())
  content[200:400] = bytes(200)
  path.write_bytes(content)
  with pytest.raises(
    ValueError, match=r'whole npz .*recon\.npz.*run the experiment again'
  ):
    report.write(tmp_path)


def test_torn_last_line(tmp_path):
  path = _workdir(tmp_path, cases=2) / 'results.jsonl'
  path.write_text(path.read_text()[:-30])
  with pytest.raises(ValueError, match=r'line 2 of .* got a torn last line'):
    report.write(tmp_path)


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    ('', 'Expected at least one result'),
    ('{"row": 0}', 'got none of point, case, sweep'),
    ('[]', 'got none of row, point'),
    ('{"row"\n{}', 'line 1 .* got a broken line'),
  ],
)
def test_wrong_results(tmp_path, lines, message):
  (_workdir(tmp_path) / 'results.jsonl').write_text(lines)
  with pytest.raises(ValueError, match=message):
    report.write(tmp_path)


def test_rows_twice_or_without_arrays(tmp_path):
  path = _workdir(tmp_path) / 'results.jsonl'
  line = path.read_text()
  path.write_text(line * 2)
  with pytest.raises(ValueError, match='row=0 twice'):
    report.write(tmp_path)
  path.write_text(line + line.replace('"row": 0', '"row": 7'))
  with pytest.raises(ValueError, match=r'no array .0007/x. .12 missing'):
    report.write(tmp_path)


def test_a_report_needs_no_device(tmp_path):
  _workdir(tmp_path)
  code = f'from giajax.report import report; report.write({str(tmp_path)!r})'
  subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'JAX_PLATFORMS': 'no_such_device'},
    check=True,
  )
  assert (tmp_path / 'report.html').exists()


def test_an_image_without_a_label_is_called_so(tmp_path):
  path = _workdir(tmp_path)
  _change(path, y_hat=np.array([-1, 1]))
  html = _html(path)
  assert 'class 0, no label claimed' in html and 'class -1' not in html
