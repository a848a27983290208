"""Every code block of the README and of the site is run or checked.

  python  is executed; the blocks of a page share one namespace, in order, and
          a config that they leave in it is checked
  text    behind a python block is what that block prints, but for the numbers;
          elsewhere it is declared to be no code
  sh      holds commands whose flags, configs and arguments exist; those with
          --dry_run are run
  diff    keeps lines that the file it names has

Commands inside a sentence or a table are checked like those of a block.
"""

import contextlib
import importlib
import inspect
import io
import pathlib
import re
import shlex
import textwrap
from typing import NamedTuple

import ml_collections
import pytest

from giajax import registry
from giajax.commands import configs
from giajax.commands import dispatch
from giajax.commands import flags
from giajax.engine import build
from giajax.engine import schema
from giajax.engine import sweep
from giajax.engine import systems
from giajax.engine import tables
from giajax.models import inspect as models
from giajax.verify.calibration import options

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PAGES = [
  str(path.relative_to(_ROOT))
  for path in (
    _ROOT / 'README.md',
    _ROOT / 'CONTRIBUTING.md',
    _ROOT / 'SECURITY.md',
    *sorted((_ROOT / 'docs').glob('*.md')),
    *sorted((_ROOT / 'configs').rglob('*.md')),
  )
]
_LANGUAGES = ('python', 'text', 'sh', 'diff')
_FENCED = re.compile(r'^( *)```(.*)\n((?:.*\n)*?)\1```$', re.MULTILINE)
_INDENTED = re.compile(r'(?<=\n\n)(?: {4}.*\n)+')
_INLINE = re.compile(r'`((?:giajax|python -m|make) [^`]+)`')
_PATH = re.compile(r'`((?:giajax|tests|configs|launch|docs)/[\w./]+)`')
# Commands that a sentence may name without their arguments.
_NAMES = {f'giajax {name}' for name in dispatch.COMMANDS}
_NUMBER = re.compile(r'-?\d+(\.\d+)?(e-?\d+)?')


class Block(NamedTuple):
  """A piece of code in a page."""

  language: str
  text: str
  line: int  # of its first line in the page, from 1


def blocks(page):
  """Returns the fenced blocks of a page, and those of four spaces as sh."""
  source = (_ROOT / page).read_text(encoding='utf-8')
  every = []
  for match in _FENCED.finditer(source):
    line = source.count('\n', 0, match.start(3)) + 1
    text = textwrap.dedent(match[3])
    every.append(Block(match[2].strip(), text, line))
  rest = _FENCED.sub(lambda m: '\n' * m[0].count('\n'), source)
  for match in _INDENTED.finditer(rest):
    line = rest.count('\n', 0, match.start()) + 1
    every.append(Block('sh', textwrap.dedent(match[0]), line))
  return sorted(every, key=lambda block: block.line)


def pages_with(*languages):
  return [
    page
    for page in _PAGES
    if any(block.language in languages for block in blocks(page))
  ]


@pytest.mark.parametrize('page', _PAGES)
def test_every_block_has_a_language_that_is_checked(page):
  source = (_ROOT / page).read_text(encoding='utf-8')
  for match in _FENCED.finditer(source):
    assert match[2].strip() in _LANGUAGES, f'{page}: {match[0]}'
  assert source.count('```') == 2 * len(_FENCED.findall(source)), page


# Python.


@pytest.mark.parametrize('page', pages_with('python'))
def test_python_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names = {'__name__': 'docs'}
  printed = None
  for block in blocks(page):
    where = f'{page}:{block.line}'
    if block.language == 'python':
      printed = run(block, page, names)
      if 'imsave' in block.text:
        check_attack(printed, tmp_path)
      if isinstance(names.get('config'), ml_collections.ConfigDict):
        check_config(names['config'], where)
    elif block.language == 'text' and printed is not None:
      assert shape(printed) == shape(block.text), where
      printed = None
    else:
      printed = None


def run(block, page, names):
  """Executes a block at its own lines of the page, and returns its output."""
  source = '\n' * (block.line - 1) + block.text
  code = compile(source, str(_ROOT / page), 'exec')
  with contextlib.redirect_stdout(io.StringIO()) as output:
    exec(code, names)
  return output.getvalue()


def shape(text):
  """Returns lines without their numbers, which differ between machines."""
  return [
    ' '.join(_NUMBER.sub('#', line).split()) for line in text.splitlines()
  ]


def check_config(config, where):
  """Checks the keys of a config, and the arguments of the rows it names."""
  knobs = {}
  for point in sweep.expand(config):
    for kind, table in tables.FAMILIES.items():
      entries = point.config[kind]
      for entry in entries if isinstance(entries, list) else [entries]:
        if kind == 'auxiliary' and not entry:
          continue
        row = registry.lookup(table, entry['name'], kind)
        parameters = inspect.signature(row).parameters
        for name in set(entry) & set(parameters):
          annotation = parameters[name].annotation
          schema.check_argument(entry[name], annotation, f'{kind}.{name}')
        unknown = set(entry) - {'name', *parameters}
        if unknown and kind == 'attack':  # of a part, such as its start
          names = frozenset(entry)
          knobs[names] = knobs.get(names) or traced_knobs(point.config)
          unknown -= knobs[names]
        assert not unknown, f'{where}: {kind}={entry} has {unknown}'


def traced_knobs(config):
  """Returns the knobs that an attack has once it is built, on any images."""
  config = {**config, 'dataset': {'name': 'photographs', 'size': 32}}
  with pytest.MonkeyPatch.context() as patch:
    abstract = models.abstract_variables
    patch.setattr(systems, 'variables', lambda net, *_: abstract(net))
    return set(build.setup(config).attack.hparams)


def check_attack(printed, folder):
  """Checks that the attack of the README is worth showing."""
  values = [
    [float(match[0]) for match in _NUMBER.finditer(line)]
    for line in printed.splitlines()
  ]
  assert len(values) == 4
  assert all(psnr > mean_image + 3 for psnr, mean_image in values)
  assert list(folder.glob('*.png'))


# Commands.


def commands(page):
  """Yields the commands of a page, and where each stands."""
  source = (_ROOT / page).read_text(encoding='utf-8')
  for block in blocks(page):
    if block.language == 'sh':
      for line in block.text.replace('\\\n', ' ').splitlines():
        if line.strip() and not line.startswith('#'):
          yield line, f'{page}:{block.line}'
  rest = _FENCED.sub(lambda m: '\n' * m[0].count('\n'), source)
  for match in _INLINE.finditer(rest):
    line = rest.count('\n', 0, match.start()) + 1
    command = match[1].replace('\n', ' ')
    if command not in _NAMES:
      yield command, f'{page}:{line}'


@pytest.mark.parametrize('page', [p for p in _PAGES if list(commands(p))])
def test_commands_would_be_understood(page, monkeypatch):
  monkeypatch.chdir(_ROOT)
  for command, where in commands(page):
    check_command(shlex.split(command, comments=True), where)


def check_command(words, where):
  match words:
    case ['giajax', '--list' | '--version']:
      pass
    case ['giajax', *rest]:
      name, *rest = rest if rest[0] in dispatch.COMMANDS else ('run', *rest)
      check_module(f'giajax.commands.{name}', rest, where)
    case ['python', '-m', 'pytest', *paths]:
      assert all((_ROOT / path).exists() for path in paths), where
    case ['python', '-m', 'golden.make_torch', *cases]:
      assert all(case.isidentifier() for case in cases), where
    case ['python', '-m', module, *rest]:
      # A wheel has launch/ as giajax.launch.
      module = module.replace('giajax.launch', 'launch')
      check_module(module, rest, where)
    case ['sh', script, *rest]:
      assert script.endswith('/run.sh'), where
      check_module('launch.accelerator', rest, where)
    case ['make', *targets]:
      text = (_ROOT / 'Makefile').read_text(encoding='utf-8')
      assert set(targets) <= set(re.findall(r'^(\w+):', text, re.M)), where
    case ['pip', 'install', *rest]:
      text = (_ROOT / 'pyproject.toml').read_text(encoding='utf-8')
      for extra in re.findall(r'(?<=[\[,])\w+', rest[-1]):
        assert re.search(rf'^{extra} = \[', text, re.M), where
    case ['pre-commit', 'install']:
      assert (_ROOT / '.pre-commit-config.yaml').is_file(), where
    case _:
      pytest.fail(f'{where}: no check is known for {" ".join(words)!r}')


def check_module(name, words, where):
  """Reads the flags of a command, and its config; makes only dry runs."""
  module = importlib.import_module(name)
  if hasattr(module, '__path__'):  # `python -m` runs a package's __main__
    module = importlib.import_module(f'{name}.__main__')
  try:
    if not hasattr(module, 'FLAGS'):
      options.parse(module._flags(), [name, *words], {})
      return
    usage = getattr(module, 'USAGE', name)
    read = flags.read(name, usage, module.FLAGS, words)
    if flags.CONFIG in module.FLAGS:
      check_config(configs.load(read), where)
    if '--dry_run' in words:
      assert module.main([name, *words]) == 0, where
  except ValueError as error:
    pytest.fail(f'{where}: {error}')


# Diffs.


@pytest.mark.parametrize('page', pages_with('diff'))
def test_diffs_fit_the_files_that_they_change(page):
  for block in blocks(page):
    if block.language != 'diff':
      continue
    where = f'{page}:{block.line}'
    first, *lines = block.text.splitlines()
    assert first.startswith('--- '), where
    source = (_ROOT / first[4:]).read_text(encoding='utf-8').splitlines()
    kept = [line[1:] for line in lines if line[:1] in (' ', '-')]
    assert kept, where
    position = 0
    for line in kept:
      assert line in source[position:], f'{where}: {first[4:]} lacks {line!r}'
      position += source[position:].index(line) + 1
    assert any(line.startswith('+') for line in lines), where


# The faces of the project.


def test_readme_is_short():
  lines = (_ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
  assert len(lines) <= 150


@pytest.mark.parametrize('page', _PAGES)
def test_paths_in_sentences_exist(page):
  source = (_ROOT / page).read_text(encoding='utf-8')
  for path in _PATH.findall(_FENCED.sub('', source)):
    assert 'NAME' in path or (_ROOT / path).exists(), f'{page}: {path}'


@pytest.mark.parametrize('page', _PAGES)
def test_links_to_files_lead_somewhere(page):
  source = (_ROOT / page).read_text(encoding='utf-8')
  source = _FENCED.sub('', source)
  for target in re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', source):
    if '://' not in target and not target.startswith(('mailto:', 'api/')):
      folder = (_ROOT / page).parent
      assert (folder / target).exists(), f'{page}: {target}'
