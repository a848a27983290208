"""Damages what a killed run has kept, and lets it continue.

It has to end with the bits of a run that nobody disturbs: what is damaged is
computed again, never believed. Only a damaged `config.json` may be refused.
"""

import json
import pathlib
import shutil

from tests.campaign import experiments
from tests.campaign import processes
from tests.campaign import tries

_FEW = ('one device', 'two devices', 'malicious rounds')
_HUNTS = 20  # until a run is caught half done
_SAVED = 'checkpoints/*/[2-9]/commit_success.txt'


def attempt(number: int, lab: processes.Lab) -> tries.Try:
  """Damages one thing of a killed run; see `kills.attempt`."""
  name = _FEW[number % len(_FEW)]
  experiment = experiments.experiment(name, lab)
  workdir = lab.own / 'run'
  shutil.copytree(_killed(name, lab), workdir)
  damage = DAMAGES[number // len(_FEW) % len(DAMAGES)]
  other = _killed(name, lab, '--config.seed=1')
  target = damage(lab.random, workdir, other)
  arguments = f'--config={experiment.config}', f'--workdir={workdir}'
  process = lab.start(*arguments, devices=experiment.devices)
  ending = process.finished(120)
  verdict = tries.compared(ending, workdir, experiment.bits)
  # Nothing else says what was run.
  if ending.verdict == 'refused' and target.name == 'config.json':
    verdict = 'refused'
  what = f'{name}, {damage.__name__}: {target.relative_to(workdir)}'
  return tries.Try(what, verdict, 1, [ending])


def _killed(name: str, lab: processes.Lab, *changes: str) -> pathlib.Path:
  """Returns the workdir of a run with a finished part and a checkpoint."""
  experiment = experiments.experiment(name, lab)
  workdir = experiment.config.parent / f'killed{len(changes)}'
  arguments = f'--config={experiment.config}', f'--workdir={workdir}', *changes
  for _ in range(_HUNTS):
    if workdir.is_dir() and _half_done(workdir):
      return workdir
    shutil.rmtree(workdir, ignore_errors=True)
    process = lab.start(*arguments, devices=experiment.devices)
    process.ending(120, lambda: _half_done(workdir))
    process.killed()
  raise RuntimeError(f'{name} is never caught between two parts')


def _half_done(workdir: pathlib.Path) -> bool:
  return any(workdir.glob('parts/*.npz')) and any(workdir.glob(_SAVED))


def _file(random, workdir: pathlib.Path) -> pathlib.Path:
  """Returns a file of a checkpoint or of a part that is not empty."""
  kinds = ('checkpoints/**/*', 'parts/*.npz', 'config.json')
  paths = sorted(workdir.glob(str(random.choice(kinds, p=[0.6, 0.3, 0.1]))))
  files = [p for p in paths if p.is_file() and p.stat().st_size]
  return files[random.integers(len(files))]


def _step(random, workdir: pathlib.Path) -> pathlib.Path:
  steps = sorted(p.parent for p in workdir.glob('checkpoints/*/*/_CHECK*'))
  return steps[random.integers(len(steps))]


def _flipped_bits(random, workdir, other):
  del other
  path = _file(random, workdir)
  data = bytearray(path.read_bytes())
  for place in random.integers(len(data), size=random.integers(1, 4)):
    data[place] ^= 1 << random.integers(8)
  path.write_bytes(data)
  return path


def _cut(random, workdir, other):
  del other
  path = _file(random, workdir)
  path.write_bytes(path.read_bytes()[: random.integers(path.stat().st_size)])
  return path


def _zeros(random, workdir, other):
  del other
  path = _file(random, workdir)
  data = bytearray(path.read_bytes())
  first = random.integers(len(data))
  data[first : first + 512] = bytes(len(data[first : first + 512]))
  path.write_bytes(data)
  return path


def _longer(random, workdir, other):
  del other
  path = _file(random, workdir)
  path.write_bytes(path.read_bytes() + random.bytes(random.integers(1, 99)))
  return path


def _removed(random, workdir, other):
  del other
  path = _file(random, workdir)
  path.unlink()
  return path


def _folder_for_a_file(random, workdir, other):
  path = _removed(random, workdir, other)
  path.mkdir()
  return path


def _another_json(random, workdir, other):
  """A file of a checkpoint that is JSON, but of another shape."""
  del other
  files = [p for p in sorted(workdir.glob('checkpoints/**/*')) if _is_json(p)]
  path = files[random.integers(len(files))]
  whole = json.loads(path.read_text())
  odd = [None, [], {}, 5, 'x', {'tree_metadata': None}, [whole]]
  if isinstance(whole, dict) and whole:
    key = [*whole][random.integers(len(whole))]
    odd += [{k: v for k, v in whole.items() if k != key}, {**whole, key: None}]
    odd += [{**whole, key: [whole[key]]}, {**whole, key: {'x': 1}}]
  path.write_text(json.dumps(odd[random.integers(len(odd))]))
  return path


def _is_json(path: pathlib.Path) -> bool:
  try:
    json.loads(path.read_bytes())
  except (OSError, ValueError):
    return False
  return True


def _emptied_step(random, workdir, other):
  del other
  step = _step(random, workdir)
  for path in step.iterdir():
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  return step


def _empty_step_behind(random, workdir, other):
  del other
  path = _step(random, workdir).parent / '90'
  path.mkdir()
  return path


def _item_removed(random, workdir, other):
  del other
  step = _step(random, workdir)
  shutil.rmtree(step / 'default')
  return step


def _step_of_another_number(random, workdir, other):
  del other
  step = _step(random, workdir)
  return step.rename(step.parent / '80')


def _of_another_run(random, workdir, other):
  """A part, or all checkpoints, of the same run with another seed."""
  kind = str(random.choice(['parts', 'checkpoints']))
  shutil.rmtree(workdir / kind)
  return shutil.copytree(other / kind, workdir / kind)


def _part_under_another_name(random, workdir, other):
  del random, other
  path = min(workdir.glob('parts/*.npz'))
  first, last = (int(x) for x in path.stem.split('-')[1:])
  name = f'000-{last:05}-{2 * last - first:05}.npz'
  return shutil.copy(path, path.with_name(name))


DAMAGES = (
  _flipped_bits,
  _another_json,
  _cut,
  _zeros,
  _another_json,
  _longer,
  _removed,
  _flipped_bits,
  _folder_for_a_file,
  _emptied_step,
  _empty_step_behind,
  _item_removed,
  _step_of_another_number,
  _of_another_run,
  _part_under_another_name,
)
