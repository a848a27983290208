"""The one schema of a row of `results.jsonl`, and of its arrays.

A row is about one update. It is checked when it is written and when it is read
back; null is a number that is not defined or not finite.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from giajax.metrics import METRICS
from giajax.metrics import scoring
from giajax.metrics import success
from giajax.results import kinds


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
    parts: the kind of a dict or list, if it says more; see `kinds`.
  """

  name: str
  kind: type
  meaning: str
  label: str = ''
  form: str = '.3f'
  optional: bool = False
  needs_truth: bool = False
  share: bool = False
  parts: Any = None


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
  Column(
    'sweep', dict, 'what the sweep set, by dotted key', parts={str: object}
  ),
  Column('attack', str, 'name of the attack'),
  Column('model', str, 'name of the network'),
  Column('dataset', str, 'name of the data set'),
  Column('batch_size', int, 'images behind the update'),
  Column('restarts', int, 'restarts of the attack'),
  Column('steps', int, 'steps of each restart; 0 for a closed form'),
  Column(
    'grants', list, 'what the threat model gave the attacker', parts=[str]
  ),
  Column('cohort', int, 'number of the static setting, from 0'),
  Column('config_hash', str, 'names the configuration of the point'),
  Column(
    'versions', dict, 'versions of the software, by name', parts=kinds.NAMED
  ),
  Column('setting', str, "'diagnostic', 'deployment' or 'captured'"),
  Column('setting_reasons', list, 'what helps the attack', parts=[str]),
  Column(
    'accuracy',
    float,
    'share of a sample of the data set that the network classifies rightly, or '
    'of the targets that it has right',
    'accuracy',
    '.0%',
  ),
  Column('score', float, "the attacker's own objective; lower is better"),
  Column(
    'score_start',
    float,
    'the same where the attack started',
    'objective at the start',
    '.3g',
    optional=True,
  ),
  Column(
    'score_noise',
    float,
    'the same at the end, for an update of noise; null without a control',
    'objective for noise',
    '.3g',
    optional=True,
  ),
  Column(
    'agreement',
    float,
    'median PSNR between the images of the chosen restart and those of the '
    'others; null for a single restart',
    'agreement of restarts (dB)',
    '.1f',
    optional=True,
  ),
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
    'share of the true labels, or other targets, that the attack names, '
    'whichever image they belong to; null if it names none',
    'labels recovered',
    '.0%',
    needs_truth=True,
    share=True,
  ),
  Column(
    'labels_matched',
    float,
    'share of the images that came back with their own label, or of their own '
    'target; null if the attack names none',
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
    'every metric of every baseline, by their names',
    needs_truth=True,
    parts={str: {str: kinds.NUMBER}},
  ),
  Column(
    'degenerate', str, "why the update could not give its images away, or ''"
  ),
  Column('verdict', str, f'one of {", ".join(success.WORDS)}'),
  Column('reason', str, 'what the verdict rests on, in a sentence'),
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

# As `engine.join` finds them in a part: before the comparison with the control,
# with the values of each image in the baselines.
UNJUDGED: dict[str, Column] = {
  name: column._replace(parts={str: {str: [float]}})
  if name == 'baselines'
  else column
  for name, column in COLUMNS.items()
  if name not in ('verdict', 'reason')
}


class Array(NamedTuple):
  """What an array of a row holds.

  Attributes:
    meaning: the meaning in words.
    axes: a letter per axis. B are the images, at H W C; R the restarts, L the
      recorded steps, S the baselines, and M their metrics. A star at the end
      stands for any further axes, and lets the array be a tree of arrays, whose
      names are NAME.LEAF.
    kinds: numpy's letters of the types that it may have.
    needs_truth: as for a column.
  """

  meaning: str
  axes: str
  kinds: str = 'f'
  needs_truth: bool = False


# There is also one array per metric, [B], and 'baselines', [S, M, B].
ARRAYS: dict[str, Array] = {
  'x': Array('the true images', 'BHWC', needs_truth=True),
  'y': Array('their targets', 'B*', 'iufb', needs_truth=True),
  'x_hat': Array('the images that came back', 'BHWC'),
  'y_hat': Array('their targets; -1, NaN or false for none', 'B*', 'ifb'),
  'x_start': Array('where the attack started', 'BHWC'),
  'psnr': Array('see the columns', 'B', needs_truth=True),
  'ssim': Array('see the columns', 'B', needs_truth=True),
  'scores': Array("the attacker's objective of each restart", 'R'),
  'finite': Array('whether a restart stayed finite', 'R', 'b'),
  'chosen': Array('which restart the attacker chooses', '', 'iu'),
  'trace': Array('the objective at the recorded steps', 'RL'),
  'trace_step': Array('those steps', 'L', 'iu'),
}
OPTIONAL = {
  **{name: Array(m.meaning, 'B') for name, m in METRICS.items()},
  'baselines': Array('the metrics of every guess', 'SMB'),
  'x_noise_gradient': Array('what the attack made of noise', 'BHWC'),
  'x_class_sample': Array('random images of the generator', 'BHWC'),
  'x_nearest_auxiliary': Array('the nearest auxiliary images', 'BHWC'),
}


_KNOWN = ARRAYS | OPTIONAL


def is_scored(row: Mapping[str, Any]) -> bool:
  """Returns whether a row compares with images that are known."""
  return any(COLUMNS[name].needs_truth for name in row if name in COLUMNS)


def check(
  row: Any, where: str, columns: Mapping[str, Column] = COLUMNS
) -> dict[str, Any]:
  """Returns a row that fits the schema.

  Args:
    row: a candidate for a row.
    where: what the message calls it.
    columns: what it has.

  Raises:
    ValueError: a column that is missing or unknown, or a value of another type.
  """
  row = row if isinstance(row, Mapping) else {}
  known = is_scored(row)
  missing = [
    name
    for name, column in columns.items()
    if name not in row
    and not column.optional
    and (known or not column.needs_truth)
  ]
  if missing:
    raise ValueError(
      f'Expected {where} to have every column of this version; got none of '
      f'{", ".join(missing)}; run the experiment again with this version'
    )
  for name, value in row.items():
    if name not in columns:
      raise ValueError(
        f'Expected {where} to have known columns only; got {name!r}; run the '
        'experiment again with this version'
      )
    column = columns[name]
    if column.parts is None and type(value) is column.kind:
      continue  # as most are
    kind = kinds.NUMBER if column.kind is float else column.parts or column.kind
    kinds.check({name: value}, {name: kind}, where, 'run the experiment again')
  return dict(row)


def check_arrays(
  row: Mapping[str, Any], arrays: Mapping[str, Any], where: str
) -> None:
  """Checks the shapes and types of the arrays of a row.

  Args:
    row: the row.
    arrays: what has a shape and a dtype, by names of `ARRAYS` or `OPTIONAL`, or
      of leaves of them.
    where: what the message calls them.

  Raises:
    ValueError: an array of another type, or whose shape does not go with those
      of the others or with the row.
  """
  baselines = row.get('baselines', {})
  sizes = {'S': len(baselines)}
  if baselines:
    sizes['M'] = len(next(iter(baselines.values())))
  for name in sorted(arrays, key=_place):
    array, found = _KNOWN[name.partition('.')[0]], arrays[name]
    shape, dtype = found.shape, found.dtype
    axes = array.axes.removesuffix('*')
    pairs = [*zip(axes, shape)]
    more = len(shape) - len(axes)
    if (
      dtype.kind not in array.kinds
      or (more and array.axes == axes)
      or more < 0
      or any(sizes.setdefault(axis, size) != size for axis, size in pairs)
      or any(size == 0 for axis, size in pairs if axis != 'L')
    ):
      wanted = ', '.join(str(sizes.get(axis, axis)) for axis in axes)
      raise ValueError(
        f'Expected {name!r} of row {row["row"]} in {where} to be [{wanted}] of '
        f'{_TYPES[array.kinds]}; got {[*shape]} of {dtype}; run '
        'the experiment again'
      )


def _place(name: str) -> int:
  """Returns where an array stands in the tables; images come first."""
  return _PLACES[name.partition('.')[0]]


_PLACES = {name: i for i, name in enumerate(_KNOWN)}
_TYPES = {
  'f': 'floats',
  'iu': 'whole numbers',
  'b': 'bools',
  'iufb': 'numbers',
  'ifb': 'numbers',
}
