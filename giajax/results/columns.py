"""The one schema of a row of `results.jsonl`, and of its arrays.

A row is about one update. It is checked when it is written and when it is read
back; null is a number that is not defined or not finite.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from giajax.metrics import METRICS
from giajax.metrics import scoring
from giajax.metrics import success


class Column(NamedTuple):
  """What a row says under one key.

  Attributes:
    name: the key.
    kind: the type of its values; a float column takes whole numbers and null.
    meaning: the meaning in words.
    label: what tables call it.
    form: the format specification of its values, for numbers.
    optional: a row has it only if the config asks for it.
    needs_truth: it is unknown where the client's images are unknown.
    share: it is a share of images, summed up by a mean.
  """

  name: str
  kind: type
  meaning: str
  label: str = ''
  form: str = '.3f'
  optional: bool = False
  needs_truth: bool = False
  share: bool = False


def _metrics() -> list[Column]:
  columns = []
  for metric in METRICS.values():
    own = Column(
      metric.name,
      float,
      metric.meaning,
      metric.title,
      metric.form,
      optional=metric.name not in scoring.ALWAYS,
      needs_truth=True,
      share=metric.summary == 'mean',
    )
    columns.append(own)
    if metric.of_images:
      unit = f' ({metric.unit})' if metric.unit else ''
      columns.append(
        own._replace(
          name=f'{metric.name}_claimed',
          meaning='The same over the images that the attack claims to have '
          'found.',
          label=f'{metric.label} of the claimed{unit}',
        )
      )
  return columns


_ROW = (
  Column('row', int, 'number of the row, from 0'),
  Column('point', int, 'number of the point of the sweep, from 0'),
  Column('case', int, 'number of the batch within its point, from 0'),
  Column('sweep', dict, 'what the sweep set, by dotted key'),
  Column('attack', str, 'name of the attack'),
  Column('model', str, 'name of the network'),
  Column('dataset', str, 'name of the data set'),
  Column('batch_size', int, 'images behind the update'),
  Column('restarts', int, 'restarts of the attack'),
  Column('steps', int, 'steps of each restart; 0 for a closed form'),
  Column('grants', list, 'what the threat model gave the attacker'),
  Column('cohort', int, 'number of the static setting, from 0'),
  Column('config_hash', str, 'names the configuration of the point'),
  Column('versions', dict, 'versions of the software, by name'),
  Column('setting', str, "'diagnostic' or 'deployment'"),
  Column('setting_reasons', list, 'why it is diagnostic'),
  Column(
    'accuracy',
    float,
    'share of a sample of the data set that the network classifies rightly',
    'accuracy',
    '.0%',
  ),
  Column('score', float, "the attacker's own objective; lower is better"),
  Column(
    'claimed',
    int,
    'images that the attack claims to have found',
    needs_truth=True,
  ),
  Column(
    'labels_granted',
    bool,
    'whether the attack was given the labels, or their counts',
  ),
  Column(
    'labels_recovered',
    float,
    'share of the true labels that the attack names, whichever image they '
    'belong to; null if it names none',
    'labels recovered',
    '.0%',
    needs_truth=True,
    share=True,
  ),
  Column(
    'labels_matched',
    float,
    'share of the images that came back with their own label; null if the '
    'attack names none',
    'images with their own label',
    '.0%',
    needs_truth=True,
    share=True,
  ),
  *_metrics(),
  Column(
    'psnr_oracle',
    float,
    'PSNR of the restart that somebody who knows the truth would choose',
    'PSNR of the best restart (dB)',
    '.2f',
    needs_truth=True,
  ),
  Column('finite_restarts', int, 'restarts that stayed finite'),
  Column(
    'baselines',
    dict,
    'every metric of every trivial guess, by their names',
    needs_truth=True,
  ),
  Column(
    'degenerate', str, "why the update could not give its images away, or ''"
  ),
  Column(
    'verdict', str, f'one of {", ".join(success.WORDS)}', needs_truth=True
  ),
  Column(
    'reason',
    str,
    'what the verdict rests on, in a sentence',
    needs_truth=True,
  ),
  Column(
    'seconds_per_update',
    float,
    'seconds of attack by all updates that ran together, divided by their '
    'number: equal for all of them',
    'seconds per update',
    '.3g',
  ),
  Column(
    'compile_seconds',
    float,
    'seconds of compiling the program that the row ran in',
    'seconds of compilation',
    '.3g',
  ),
  Column(
    'layout',
    str,
    'how many devices shared the update, and how many of its restarts ran '
    'together on each: another layout rounds in another way',
    optional=True,  # older rows have none
  ),
)
COLUMNS: dict[str, Column] = {column.name: column for column in _ROW}

# Arrays of a row, with B images, R restarts, L recorded steps and S baselines.
# There is also one array per metric, [B].
ARRAYS: dict[str, str] = {
  'x': 'the true images, [B, H, W, C]',
  'y': 'their labels, [B]',
  'x_hat': 'the images that came back, [B, H, W, C]',
  'y_hat': 'their labels, [B]; -1 for none',
  'x_start': 'where the attack started, [B, H, W, C]',
  'psnr': 'see the columns, [B]',
  'ssim': 'see the columns, [B]',
  'scores': "the attacker's objective of each restart, [R]",
  'finite': 'whether a restart stayed finite, [R]',
  'chosen': 'which restart the attacker chooses, []',
  'trace': 'the objective at the recorded steps, [R, L]',
  'trace_step': 'those steps, [L]',
}


def check(row: Any, where: str) -> dict[str, Any]:
  """Returns a row that fits the schema.

  Args:
    row: a candidate for a row.
    where: what the message calls it.

  Raises:
    ValueError: a column that is missing or unknown, or a value of another type.
  """
  row = row if isinstance(row, Mapping) else {}
  missing = [n for n, c in COLUMNS.items() if not c.optional and n not in row]
  if missing:
    raise ValueError(
      f'Expected {where} to have every column of this version; got none of '
      f'{", ".join(missing)}; run the experiment again with this version'
    )
  for name, value in row.items():
    if name not in COLUMNS:
      raise ValueError(
        f'Expected {where} to have known columns only; got {name!r}; run the '
        'experiment again with this version'
      )
    if not _fits(value, COLUMNS[name].kind):
      raise ValueError(
        f'Expected {where} to hold {COLUMNS[name].kind.__name__} under '
        f'{name!r}; got {value!r}; run the experiment again'
      )
  return dict(row)


def _fits(value: Any, kind: type) -> bool:
  if kind is float:
    return value is None or type(value) in (int, float)
  return type(value) is kind
