"""Adds what the site shows from elsewhere in the repository.

A hook of mkdocs. Pages and pictures outside docs/ are added under a name of the
site, and links to them are rewritten, so that the same links work in the
repository. The API reference has one page per package, made from what the
package holds: a module that is added, moved or renamed is documented without
further work. Nothing of giajax is imported.
"""

import pathlib

from mkdocs.structure import files as mkdocs_files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGE = _ROOT / 'giajax'
# The command line explains itself: giajax --help.
_LEFT_OUT = ('commands', 'main.py')
# Names in the site, by where the files and folders are.
_ELSEWHERE = {
  'CONTRIBUTING.md': 'contributing.md',
  'SECURITY.md': 'security.md',
  'configs/quickstart.png': 'quickstart.png',
  'configs/studies/results/': 'studies/',
}


def on_config(config):
  """Appends studies and reference to the navigation."""
  names = [name for name in _elsewhere() if name.startswith('studies/')]
  pages = sorted(name for name in names if name.endswith('.md'))
  pages.sort(key=lambda name: not name.endswith('README.md'))
  config.nav.append({'Studies': pages})
  entries = [{name: path} for name, path, _ in _reference()]
  config.nav.append({'API reference': entries})
  return config


def on_files(files, config):
  """Adds files from elsewhere and the pages of the reference."""
  for name, path in _elsewhere().items():
    file = mkdocs_files.File.generated(config, name, abs_src_path=str(path))
    files.append(file)
  for name, path, modules in _reference():
    parts = [f'# {name}', *(f'::: {module}' for module in modules)]
    content = '\n\n'.join(parts) + '\n'
    files.append(mkdocs_files.File.generated(config, path, content=content))
  return files


def on_page_markdown(markdown, **kwargs):
  """Turns links to files elsewhere into links within the site."""
  del kwargs
  for path, name in _ELSEWHERE.items():
    markdown = markdown.replace(f'](../{path}', f']({name}')
  return markdown


def _elsewhere():
  """Returns the path of each file from elsewhere by its name in the site."""
  found = {}
  for path, name in _ELSEWHERE.items():
    source = _ROOT / path
    for file in sorted(source.iterdir()) if source.is_dir() else [source]:
      found[name + file.name if source.is_dir() else name] = file
  return found


def _reference():
  """Yields name, path and modules of each page of the reference."""
  top = [f'giajax.{path.stem}' for path in _modules(_PACKAGE)]
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
