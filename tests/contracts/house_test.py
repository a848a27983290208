"""Tests of the house: who may import whom, and how large a room may be."""

import ast
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGE = _ROOT / 'giajax'
# From the ground up. A module imports its own storey or those below it.
_STOREYS = (
  'types',
  'registry',
  'printable',
  'same',
  'interrupts',
  'environment',
  'trees',
  'keys',
  'files',
  'zips',
  'paths',
  'archives',
  'capture',
  'images',
  'ops',
  'tasks',
  'models',
  'data',
  'threat',
  'clients',
  'world',
  'require',
  'generative',
  'defenses',
  'priors',
  'attacks',
  'learners',
  'metrics',
  'verify',
  'results',
  'engine',
  'report',
  'verify.calibration',
  'advice',
  'battery',
  'commands',
  'main',
)
# What `import giajax` shows stands beside the storeys; so does its version.
_ROOF = 'giajax'
_MOST_LINES = 500
_COMMANDS = (
  *('advise', 'audit', 'collect', 'convert', 'craft', 'init', 'report', 'run'),
  *('status', 'train', 'tune', 'verify'),
)


def _name(path: pathlib.Path) -> str:
  parts = path.relative_to(_ROOT).with_suffix('').parts
  return '.'.join(parts).removesuffix('.__init__')


_MODULES = {_name(path): path for path in sorted(_PACKAGE.rglob('*.py'))}


def _imports(path: pathlib.Path) -> set[str]:
  """Returns the modules of giajax that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.ImportFrom) and node.module:
      names = [f'{node.module}.{alias.name}' for alias in node.names]
      found |= {n if n in _MODULES else node.module for n in names}
    elif isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
  return {name for name in found if name.split('.')[0] == 'giajax'}


def _storey(module: str) -> str:
  inside = module.removeprefix('giajax.')
  nested = [
    s for s in _STOREYS if '.' in s and f'{inside}.'.startswith(f'{s}.')
  ]
  return nested[0] if nested else inside.split('.')[0]


_EDGES = {
  (module, target)
  for module, path in _MODULES.items()
  for target in _imports(path)
  if target != module
}


def test_every_module_has_a_storey():
  storeys = {_storey(module) for module in _MODULES if module != _ROOF}
  assert storeys == set(_STOREYS)
  assert len(_EDGES) > 500  # the imports were found


def test_nothing_is_imported_from_above():
  upwards = [
    f'{module} imports {target}'
    for module, target in sorted(_EDGES)
    if _ROOF not in (module, target)
    and _STOREYS.index(_storey(target)) > _STOREYS.index(_storey(module))
  ]
  assert not upwards


def test_only_the_version_is_imported_from_the_roof():
  users = {module for module, target in _EDGES if target == _ROOF}
  for module in users:
    text = _MODULES[module].read_text(encoding='utf-8')
    assert (
      text.count('giajax.__version__') == text.count('import giajax\n') == 1
    )


def test_there_is_no_cycle():
  targets: dict[str, set[str]] = {module: set() for module in _MODULES}
  for module, target in _EDGES:
    if target in targets and target != _ROOF:
      targets[module].add(target)
  while leaves := [m for m, t in targets.items() if not t & targets.keys()]:
    for leaf in leaves:
      del targets[leaf]
  assert not targets, f'these import each other: {sorted(targets)}'


def test_no_command_imports_another():
  commands = {f'giajax.commands.{name}' for name in _COMMANDS}
  assert commands <= _MODULES.keys()
  assert not [edge for edge in _EDGES if {*edge} <= commands]


def test_only_what_builds_reads_a_config():
  """Nothing else in the engine looks into a resolved config."""
  readers = {'build', 'halving', 'pace', 'schema', 'sweep', 'systems'}
  readers |= {'trainings'}
  for module, path in _MODULES.items():
    inside = module.removeprefix('giajax.engine.')
    if inside == module or inside in readers:
      continue
    text = path.read_text(encoding='utf-8')
    assert "config['" not in text and "resolved['" not in text, module


def test_files_are_short():
  for module, path in _MODULES.items():
    lines = path.read_text(encoding='utf-8').count('\n')
    assert lines <= _MOST_LINES, f'{module} has {lines} lines'
  for name in _COMMANDS:
    code = ast.parse(_MODULES[f'giajax.commands.{name}'].read_text('utf-8'))
    lines = code.body[-1].end_lineno - code.body[0].end_lineno
    assert lines < 70, f'{name} has {lines} lines behind its docstring'
  main = _MODULES['giajax.main'].read_text(encoding='utf-8')
  assert main.count('\n') < 90
