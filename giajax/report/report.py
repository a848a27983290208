"""The report: a pure function of the files in a workdir.

Reads `config.json`, `results.jsonl` and `recon.npz`. Writes `figures/*.png`,
the self-contained page `report.html`, its outcome for other programs in
`summary.json`, and `study.md` if the config is a study.
If `giajax advise` left an `advice.json`, it becomes a part of the page. No
device is needed, and the same files give the same bytes.
"""

import os
import pathlib

from giajax import files
from giajax import paths
from giajax import printable
from giajax.engine import workdir as folders
from giajax.report import figures
from giajax.report import page
from giajax.report import redaction
from giajax.report import summary
from giajax.results import collection
from giajax.results import study


def write(
  workdir: str | os.PathLike[str], *, redact: bool | None = None
) -> pathlib.Path:
  """Writes the report of a run and returns the path of its page.

  Args:
    workdir: the folder of a run.
    redact: whether page and figures leave out the originals and show coarse
      pictures of everything else; None for as it was before.

  Raises:
    ValueError: a file of the run is missing, torn, or of another format, or
      the workdir cannot be written.
  """
  try:
    return _write(paths.expanded(workdir, 'workdir'), redact)
  except OSError as error:
    raise folders.unwritable(pathlib.Path(workdir), error) from error


def _write(root: pathlib.Path, redact: bool | None) -> pathlib.Path:
  redact = _was_redacted(root) if redact is None else redact
  run = collection.read(root)
  with run.arrays:
    study.check_run(run)
    if redact:
      run = run._replace(arrays=redaction.Redacted(run.arrays))
    changes = collection.advice(root)
    samples = collection.sample(run)
    plots = figures.draw(run, samples, root / 'figures')
    pages = {'report.html': page.render(run, samples, plots, changes)}
    pages['summary.json'] = summary.text(run, redact)
    if study.has(run):
      pages['study.md'] = study.markdown(run)
  for name, text in pages.items():
    with files.written(root / name) as made:
      made.write_text(printable.page(text), encoding='utf-8')
  return root / 'report.html'


def _was_redacted(root: pathlib.Path) -> bool:
  """Returns whether the last report of a workdir left the originals out."""
  try:
    found = files.parsed(files.read_text(root / 'summary.json'))
  except (OSError, ValueError):  # there is none yet, or it is torn
    return False
  return isinstance(found, dict) and found.get('redacted') is True
