"""Adds what the site takes from folders: the API reference and the studies.

A hook of mkdocs. The reference has one page per package, made from what the
package holds, so that a module which is added, moved or renamed is documented
without further work. Nothing of giajax is imported.
"""

import pathlib

from mkdocs.structure import files as mkdocs_files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGE = _ROOT / 'giajax'
_STUDIES = _ROOT / 'docs' / 'studies'
# The command line explains itself: giajax --help.
_LEFT_OUT = ('commands', 'main.py')


def on_config(config):
  """Appends studies and reference to the navigation."""
  names = sorted(path.name for path in _STUDIES.glob('*.md'))
  names.sort(key=lambda name: name != 'README.md')
  config.nav.append({'Studies': [f'studies/{name}' for name in names]})
  entries = [{title: path} for title, path, _ in _pages()]
  config.nav.append({'API reference': entries})
  return config


def on_files(files, config):
  """Adds the pages of the reference."""
  for title, path, modules in _pages():
    parts = [f'# {title}', *(f'::: {module}' for module in modules)]
    content = '\n\n'.join(parts) + '\n'
    files.append(mkdocs_files.File.generated(config, path, content=content))
  return files


def _pages():
  """Yields title, path and modules of each page."""
  top = [f'giajax.{p.stem}' for p in _modules(_PACKAGE)]
  yield 'giajax', 'api/giajax.md', ['giajax', *top]
  for folder in sorted(p for p in _PACKAGE.rglob('*') if p.is_dir()):
    if {'__pycache__', *_LEFT_OUT} & {*folder.parts}:
      continue
    name = '.'.join(folder.relative_to(_ROOT).parts)
    own = [f'{name}.{path.stem}' for path in _modules(folder)]
    if own:
      yield name, f'api/{name}.md', [name, *own]


def _modules(folder):
  return sorted(
    path
    for path in folder.glob('*.py')
    if not path.name.startswith('_') and path.name not in _LEFT_OUT
  )
