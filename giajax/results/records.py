"""What `config.json` and `advice.json` of a workdir hold."""

import pathlib
from typing import Any

from giajax import files
from giajax.results import kinds

_AGAIN = 'run the experiment again'
_ADVISE = 'remove it and run giajax advise again'
_SOME = range(1, 1 << 53)
_MANY = range(1 << 53)
# `config.json`; what a config holds further is checked where it is used.
RUN = {
  'config': {'study?': dict, 'sweep?': {str: (list, dict)}},
  'hash?': str,
  'precision?': str,
  'inputs?': kinds.NAMED,
  'card?': str,
  'command?': str,
  'versions?': kinds.NAMED,
  'device?': str,
  'threat?': {
    'level?': str,
    'grants?': kinds.NAMED,
    'withheld?': kinds.NAMED,
  },
  'class_names?': [str],
  'scale?': {'low': [float], 'high': [float], 'names': [str]},
  'data_note?': str,
  'date?': str,
  'steady?': {str: {'begin': float, 'end': float}},
  'source?': {
    'form?': str,
    'meaning?': str,
    'relative_size?': float,
    'notes?': [str],
    'checks?': [str],
  },
}
_FACTS = {
  'psnr': float,
  'ssim': float,
  'recognised': _MANY,
  'images': _SOME,
  'updates': _MANY,
  'recovered': bool,
  'seconds_per_image': float,
  'audited_seconds_per_image': float,
  'parameters': _SOME,
  'fidelity?': float,
  'accuracy?': float,
}
_CHANGE = {'name': str, 'stage': str, 'title': str}
_TRIED = {
  **_CHANGE,
  **_FACTS,
  'overrides': dict,
  'gain': float,
  'chance': kinds.NUMBER,
}
_VALIDATION = {
  'honest': bool,
  'checks': _MANY,
  'models': _MANY,
  'refused': _MANY,
  'seconds': float,
  'evidence': kinds.NAMED,
  'agreed': kinds.NAMED,
}
# `advice.json`, in which a change was tried, or there is a reason why not. What
# an earlier version tried lacks its chance, and is not shown.
_ADVICE = {
  'command?': str,
  'point': int,
  'audited': _FACTS,
  'validation?': ({'reason': str}, _VALIDATION),
  'changes': [({**_CHANGE, 'reason': str}, _TRIED)],
}
_EARLIER = {**_ADVICE, 'changes': [_CHANGE]}


def run(path: pathlib.Path) -> dict[str, Any]:
  """Returns what `config.json` holds.

  Raises:
    ValueError: it cannot be read, or holds something else.
  """
  return read(path, RUN, _AGAIN)


def advice(path: pathlib.Path) -> dict[str, Any]:
  """Returns what `advice.json` holds.

  Raises:
    ValueError: it cannot be read, or holds something else.
  """
  record = read(path, _EARLIER, _ADVISE)
  changes = record['changes']
  if all('reason' in change or 'chance' in change for change in changes):
    kinds.check(record, _ADVICE, str(path), _ADVISE)
  return record


def read(path: pathlib.Path, kind: Any, advice: str) -> dict[str, Any]:
  """Returns what a file of JSON holds.

  Args:
    path: the file.
    kind: of its content, see `kinds`.
    advice: what to do if it is not, for the message.

  Raises:
    ValueError: it cannot be read, or holds something else.
  """
  try:
    record = files.parsed(files.read_text(path), finite=False)
  except (OSError, ValueError) as error:
    raise ValueError(
      f'Expected {path} to be JSON; got a torn file ({error}); {advice}'
    ) from error
  kinds.check(record, kind, str(path), advice)
  return record
