"""`giajax.audit`: an audit of a received update in one call."""

from collections.abc import Mapping, Sequence
import html
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

from giajax import capture
from giajax import paths
from giajax.battery import audit as audits
from giajax.engine import join
from giajax.engine import own_models
from giajax.models import base as models
from giajax.report import report
from giajax.report import summary
from giajax.results import collection

Tensors = str | os.PathLike[str] | capture.Tensors
_HEIGHT = 800  # pixels of the page in a notebook


class Audit(NamedTuple):
  """The outcome of an audit.

  Attributes:
    verdict: the worst word of `metrics.success.WORDS` among the attacks.
    rows: a row for each attack and belief, as in `results.jsonl`.
    folder: the workdir.
  """

  verdict: str
  rows: join.Rows
  folder: pathlib.Path

  def report(self) -> pathlib.Path:
    """Returns the path of the page."""
    return self.folder / 'report.html'

  def _repr_html_(self) -> str:
    """Shows the page in a notebook."""
    page = html.escape(self.report().read_text(encoding='utf-8'))
    return (
      f'<iframe srcdoc="{page}" width="100%" height="{_HEIGHT}" '
      'style="border:0"></iframe>'
    )


def audit(
  net: models.Net | str,
  *,
  sent: Tensors,
  received: Tensors,
  client: Mapping[str, Any],
  truth: str | os.PathLike[str] | tuple[Any, Any] | None = None,
  form: str = '',
  examples: int | None = None,
  input_shape: Sequence[int] = (),
  num_classes: int = 0,
  task: Mapping[str, Any] | None = None,
  low: Sequence[float] = (),
  high: Sequence[float] = (),
  freeze: Sequence[str] = (),
  attacks: str | Sequence[str] = 'standard',
  minutes: float = 10.0,
  workdir: str | os.PathLike[str] | None = None,
  seed: int = 0,
) -> Audit:
  """Tries the attacks that fit an update which a server received.

  Args:
    net: the network, or the name of one as `model.name` of a config has it,
      such as 'our_net.py:OurNet'.
    sent: the weights that the client started from: a file, a state dict, or a
      list of arrays in its order.
    received: what came back, in the same form.
    client: the client: a `name` in `CLIENTS` and arguments that describe it.
    truth: the images [B, H, W, C] in [0, 1], or rows [B, F] of a table, and
      their labels [B] or other targets; or an npz with `x` and `y`; None where
      nobody knows them.
    form: 'weights', 'delta' or 'gradient'; '' recognises weights.
    examples: the number of images behind the update; None takes that of
      `truth`, or else the client's batch size.
    input_shape: (H, W, C), or (F,) of rows; that of a `Net` if empty.
    num_classes: the number of classes or outputs; that of a `Net` if 0.
    task: a `name` in `TASKS`, or of a loss of one's own such as
      'our_net.py:loss', and arguments; None for classification.
    low: the values of x that become 0, of each channel or one for all; 0 if
      empty.
    high: the values that become 1; 1 if empty.
    freeze: patterns of the parameters that the client does not train.
    attacks: 'standard' for all that fit, or names in `battery.BATTERY`.
    minutes: the time that all of it may take, about; see `audits.audit`.
    workdir: the folder for the results, a new temporary one if None.
    seed: the seed of all draws.

  Raises:
    ValueError: a user's mistake, in one line.
    Interrupted: SIGTERM or SIGINT arrived; everything is saved.
  """
  _check(net, truth, minutes)
  folder = _folder(workdir)
  name = net if isinstance(net, str) else own_models.given(net)
  if not isinstance(net, str):
    input_shape = input_shape or net.spec.image_shape
    num_classes = num_classes or net.spec.num_classes
  files: Any = _files(folder, sent, received, truth, form)
  config = audits.config_of(
    model={'name': name},
    client=client,
    form=form,
    examples=examples,
    input_shape=input_shape,
    num_classes=num_classes,
    task=task,
    low=low,
    high=high,
    freeze=freeze,
    seed=seed,
    **files,
  )
  only = () if attacks == 'standard' else attacks
  if not isinstance(only, str | Sequence) or attacks in ([], ''):
    raise ValueError(
      f"Expected 'standard' or names of attacks; got attacks={attacks!r}; name "
      'at least one'
    )
  rows = audits.audit(
    config,
    folder / 'audit',
    minutes=minutes,
    only=[only] if isinstance(only, str) else only,
    finish=report.write,
  )
  run = collection.read(folder / 'audit')
  with run.arrays:
    verdict = summary.summary(run)['verdict']
  return Audit(verdict, rows, folder / 'audit')


def _check(net: Any, truth: Any, minutes: Any) -> None:
  """Raises ValueError for arguments of another kind."""
  if not isinstance(net, models.Net | str):
    raise ValueError(
      f'Expected a giajax.Net, or the name of a network; got a '
      f'{type(net).__name__}; make one by giajax.from_torch or its like'
    )
  named = truth is None or isinstance(truth, str | os.PathLike)
  pair = isinstance(truth, tuple | list) and len(truth) == 2
  if not named and not (pair and all(t is not None for t in truth)):
    raise ValueError(
      'Expected truth as (images, labels) or a file; got a '
      f'{type(truth).__name__}; give both'
    )
  if not isinstance(minutes, int | float):
    raise ValueError(
      f'Expected minutes as a number; got minutes={minutes!r}; correct it'
    )


def _folder(workdir: str | os.PathLike[str] | None) -> pathlib.Path:
  if workdir is None:
    return pathlib.Path(tempfile.mkdtemp(prefix='giajax-'))
  folder = paths.expanded(workdir, 'workdir')
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f'Expected a folder that can be made; got workdir={str(workdir)!r} '
      f'({error.strerror}); choose another'
    ) from error
  return folder


def _files(
  folder: pathlib.Path, sent: Any, received: Any, truth: Any, form: str
) -> dict[str, str]:
  """Returns the files of what was given; what is no file is written to one."""
  given = {'sent': sent, 'received': received, 'truth': truth}
  files = {
    key: str(value)
    for key, value in given.items()
    if isinstance(value, str | os.PathLike)
  }
  loose = {
    key: value
    for key, value in given.items()
    if key not in files and value is not None
  }
  for key, value in loose.items():
    path = folder / f'{key}.safetensors'
    if key == 'truth':
      capture.write(path, {'truth': capture.truth_of(value)}, form)
    else:
      capture.write(path, {key: value}, form)
    files[key] = str(path)
  return files
