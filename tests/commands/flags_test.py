"""Tests of giajax.commands.flags: a command line is read, or refused."""

import commandline
import pytest

from giajax.commands import flags

_FLAGS = (
  flags.CONFIG,
  flags.OUT,
  flags.POINT,
  flags.Flag('rate', 'The rate.', 0.5, float),
  flags.Flag('count', 'How many.', 3, int, 1),
  flags.Flag('only', 'Names.', [], list),
  flags.Flag('json', 'Prints JSON.', False, bool),
)


def _read(*argv, usage='giajax test SOURCE --out=FILE'):
  return flags.read('giajax test', usage, _FLAGS, argv)


def test_every_kind_is_read():
  line = _read('x', '--out=y', '--rate=2', '--only=a,b', '--json', '--point=0')
  values = line.values
  assert line.words == ['x'] and not line.help
  assert (values.out, values.rate, values.only) == ('y', 2.0, ['a', 'b'])
  assert (values.json, values.point, values.count) == (True, 0, 3)
  assert line.command == (
    'giajax test x --out=y --rate=2 --only=a,b --json --point=0'
  )


@pytest.mark.parametrize(
  'words, overrides',
  [
    (['--config.a.b=c d=e'], {'a.b': 'c d=e'}),
    (['-config.a', '1'], {'a': '1'}),
    (['--config.a', '--config.b='], {'a': 'True', 'b': ''}),
    (['--noconfig.a'], {'a': 'False'}),
    (['--config.a', '-0.5', '--config.b', '-.5'], {'a': '-0.5', 'b': '-.5'}),
    (['--config.a=1', '--config.a=2'], {'a': '2'}),
  ],
)
def test_overrides_are_set_apart(words, overrides):
  line = _read(*words, 'x', '--out=y', '--config=z')
  assert line.overrides == overrides
  assert line.words == ['x']
  assert line.values.config == 'z'


@pytest.mark.parametrize(
  'words, text',
  [
    ((), 'got nothing; add SOURCE, or see giajax test --help'),
    (('x',), 'got x; add --out'),
    (('x', '--out='), 'add --out'),
    (('x', 'a b', '--out=y'), "got x 'a b' --out=y; remove 'a b'"),
    (('x', '--uot=y'), 'a flag of giajax test; got --uot; did you mean --out?'),
    (('x', '--zzzzzz'), 'got --zzzzzz; see giajax test --help'),
    (('x', '--noconfig.a=1'), 'got --noconfig.a; did you mean --config?'),
    (('x', '--out=y', '--count=0'), 'got flag --count=0: 0 is not'),
    (('x', '--out=y', '--rate=z'), 'got flag --rate=z: could not convert'),
    (('x', '--out'), 'got Missing value for flag --out'),
  ],
)
def test_mistakes_name_the_remedy(words, text):
  with pytest.raises(ValueError, match=r'^Expected') as error:
    _read(*words)
  assert text in str(error.value)


def test_a_command_without_config_has_no_overrides():
  with pytest.raises(ValueError, match=r'got --config\.a; see giajax'):
    flags.read('giajax test', 'giajax test', (flags.OUT,), ['--config.a=1'])


def test_help_needs_nothing_else():
  for word in ('--help', '-h'):
    assert _read(word).help
  text = flags.help_text('What it does.\n', _FLAGS)
  assert text.startswith('What it does.\n\nFlags:\n  --config=\n')
  assert '  --rate=0.5\n      The rate.' in text
  assert '  --json\n' in text and text.endswith(
    '--help\n      Prints this text.'
  )
  assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
  'arguments, words',
  [
    ((), 'giajax --config=NAME --workdir=DIR; got nothing; add --config'),
    (('--config={c}',), 'add --workdir'),
    (('--config=nothing', '--workdir={w}'), 'smoke'),
    (('--config=smok', '--workdir={w}'), "did you mean 'smoke'?"),
    (('--config=no/such.py', '--workdir={w}'), 'a config file'),
    (('--config',), 'Missing value for flag --config'),
    (('--config={c}', '--workdir={w}', 'extra'), "remove 'extra'"),
    (('--config={c}', '--wrkdir={w}'), 'did you mean --workdir?'),
    (('--config={c}', '--workdir={w}', '--shard=2'), '--shard=I/N'),
    (('--config={c}', '--workdir={w}', '--shard=2/2'), '0 <= i < n'),
    (('--config={c}', '--workdir={w}', '--shard=²/3'), '--shard=I/N; got'),
    (('--config={c}', '--workdir={w}', '--flagfile=/no'), 'got --flagfile'),
    (('--config={c}', '--workdir={w}', '--undefok=a'), 'got --undefok'),
    (('--config={c}', '--workdir={w}', '--config..x=1'), "got ''"),
    (('--config={c}', '--workdir={w}', '--config.model.=1'), "got ''"),
    (('--config={c}', '--workdir={w}', '--config.restarts[0]=1'), "'restarts'"),
    (('--config={c}', '--workdir=~nouser/x'), 'workdir; got'),
    (('--config={c}', '--workdir=' + 300 * 'x'), 'File name too long'),
    (('--config=' + 300 * 'x', '--workdir={w}'), 'File name too long'),
    (('--config=' + 254 * 'x', '--workdir={w}'), 'a config file'),
    (('report', '~nouser'), 'WORKDIR; got'),
    (('train', '--config={c}', '--out=' + 254 * 'x'), 'File name too long'),
    (('train', '--config={c}', '--out=x.npz', '--seed=-1'), '--seed=-1'),
    (('craft', '--config={c}', '--out=x.npz', f'--case={2**32}'), '--case=42'),
    (('--config={c}', '--workdir={w}', '--processes=2'), '--coordinator'),
    (('--config={c}', '--workdir={w}', '--processes=0'), 'processes'),
    (('--config={c}', '--workdir={c}'), 'a folder that can be written'),
    (('report',), 'giajax report WORKDIR; got nothing'),
    (('report', 'a', 'b'), "remove 'b'"),
    (('report', '{w}'), 'config.json'),
    (('reprot', '{w}'), "did you mean 'report'?"),
    (('smoke',), 'a known command (advise, audit, '),
    (('train', '--config={c}'), 'add --out'),
    (('train', '--config={c}', '--epoch=2'), 'did you mean --epochs?'),
    (('craft', '--out=x.npz'), 'add --config'),
    (('craft', '--config={c}', '--out=x.npz', '--case=-1'), '--case=-1'),
  ],
)
def test_mistakes_in_a_command(capsys, tmp_path, arguments, words):
  names = {'c': commandline.write(tmp_path), 'w': tmp_path / 'run'}
  formatted = [argument.format(**names) for argument in arguments]
  assert words in commandline.complaint(capsys, *formatted)
  assert not (tmp_path / 'run').exists()
