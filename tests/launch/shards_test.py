"""Tests of what all launchers share."""

import pathlib

import pytest

from giajax.commands import flags
from launch import shards


def _read(*words):
  return flags.read('launch', 'launch', shards.FLAGS, words)


def test_the_command_of_a_shard():
  line = _read('--config=smoke', '--workdir=run', '--config.seed=4')
  base = shards.words(line, python='python')
  assert base == [
    *('python', '-m', 'giajax.main', '--config=smoke', '--workdir=run'),
    '--config.seed=4',
  ]
  assert shards.commands(base, 2) == [
    *([*base, '--shard=0/2'], [*base, '--shard=1/2'], base)
  ]
  there = shards.words(line, config='/c.py:x', workdir='/w')
  assert {'--config=/c.py:x', '--workdir=/w'} <= {*there}


@pytest.mark.parametrize('text', ['gs://b/run', 's3://b', 'GS://b/run/'])
def test_buckets_are_workdirs(text):
  line = _read('--config=smoke', f'--workdir={text}')
  assert shards.workdir(line) is None
  assert f'--workdir={text}' in shards.words(line)


@pytest.mark.parametrize('text', ['S3://', 'a+b://\n', 'file:///a', 'none://a'])
def test_other_urls_are_not(text):
  with pytest.raises(ValueError, match=r'^Expected a '):
    shards.workdir(_read('--config=smoke', f'--workdir={text}'))


@pytest.mark.parametrize('text', ['run', '/a/b:c', 'a//b', 'gs:/b'])
def test_paths_are_workdirs(text):
  found = shards.workdir(_read('--config=smoke', f'--workdir={text}'))
  assert found == pathlib.Path(text)


def test_config_files():
  line = _read('--config=~/mine.py:big:one', '--workdir=run')
  assert shards.config_file(line) == pathlib.Path('~/mine.py').expanduser()
  assert shards.config_argument(line) == ':big:one'
  line = _read('--config=smoke', '--workdir=run')
  assert (shards.config_file(line), shards.config_argument(line)) == (None, '')


def test_files_that_workers_lack(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'net.py').touch()
  (tmp_path / 'photographs').mkdir()  # which is a name of giajax's own as well

  def check(name, mount=''):
    given = '--config=smoke', '--workdir=run', f'--config.model.name={name}'
    shards.check_files(_read(*given), mount)

  for name in ('net.py:Net', f'{tmp_path}/net.py:Net', './net.py'):
    with pytest.raises(ValueError, match='which is a file of this machine'):
      check(name)
  check(f'{tmp_path}/net.py:Net', str(tmp_path))
  check('/elsewhere/net.py:Net')
  check('mlp')
