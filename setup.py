"""Maps configs/ and launch/ into the package; all else is in pyproject.toml."""

import setuptools

_MAPPED = ('configs', 'launch')
_INCLUDE = [f'{name}{end}' for name in _MAPPED for end in ('', '.*')]

setuptools.setup(
  packages=[
    *setuptools.find_packages(include=['giajax', 'giajax.*']),
    *(f'giajax.{name}' for name in setuptools.find_packages(include=_INCLUDE)),
  ],
  package_dir={f'giajax.{name}': name for name in _MAPPED},
)
