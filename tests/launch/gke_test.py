"""Tests of the launcher for Kubernetes: what it prints is a JobSet."""

import pytest
import yaml

from launch import gke
from launch import jobset

# What the schema of JobSet 0.12 (v1alpha2, with the core types that it holds)
# says of the fields that a manifest of ours has: those that are there, the
# required ones with a star. A tuple stands for one of its values.
_REF = {'fieldRef': {'fieldPath*': str}}
_POD = {
  'serviceAccountName': str,
  'restartPolicy': ('Never', 'OnFailure', 'Always'),
  'terminationGracePeriodSeconds': int,
  'nodeSelector': {'': str},
  'containers*': [
    {
      'name*': str,
      'image': str,
      'command': [str],
      'envFrom': [{'secretRef': {'name': str}}],
      'env': [{'name*': str, 'value': str, 'valueFrom': _REF}],
      'resources': {'limits': {'': int}},
      'volumeMounts': [{'name*': str, 'mountPath*': str, 'readOnly': bool}],
    }
  ],
  'volumes': [
    {
      'name*': str,
      'persistentVolumeClaim': {'claimName*': str, 'readOnly': bool},
      'configMap': {'name': str},
    }
  ],
}
_RULE = {
  'action*': ('FailIndex', 'FailJob', 'Ignore', 'Count'),
  'onExitCodes': {
    'containerName': str,
    'operator*': ('In', 'NotIn'),
    'values*': [int],
  },
  'onPodConditions': [{'type*': str, 'status': ('True', 'False', 'Unknown')}],
}
_JOB = {
  'completionMode': ('Indexed', 'NonIndexed'),
  'completions': int,
  'parallelism': int,
  'backoffLimit': int,
  'podFailurePolicy': {'rules*': [_RULE]},
  'template*': {'spec': _POD},
}
_META = {'name': str, 'namespace': str}
_SET = {
  'apiVersion': ('jobset.x-k8s.io/v1alpha2',),
  'kind': ('JobSet',),
  'metadata': _META,
  'spec': {
    'network': {
      'enableDNSHostnames': bool,
      'publishNotReadyAddresses': bool,
      'subdomain': str,
    },
    'replicatedJobs': [
      {'name*': str, 'replicas': int, 'template*': {'spec': _JOB}}
    ],
  },
}
_REQUIRED = (
  *('--workdir=/data/run', '--image=eu.gcr.io/a/b:1', '--claim=data'),
  '--accelerator=nvidia-l4',
)
_SLICE = '--kind=tpu', '--topology=4x4', '--pods=4', '--devices=4'


def _check(value, schema, path=''):
  """Fails where a value is not what a schema wants."""
  match schema:
    case dict() if '' in schema:
      assert isinstance(value, dict), path
      for key, inner in value.items():
        _check(inner, schema[''], f'{path}.{key}')
    case dict():
      assert isinstance(value, dict), path
      known = {key.rstrip('*'): inner for key, inner in schema.items()}
      needed = {key[:-1] for key in schema if key.endswith('*')}
      assert needed <= {*value} <= {*known}, (path, {*value} ^ {*known})
      for key, inner in value.items():
        _check(inner, known[key], f'{path}.{key}')
    case list():
      assert isinstance(value, list) and value, path
      for i, inner in enumerate(value):
        _check(inner, schema[0], f'{path}[{i}]')
    case tuple():
      assert value in schema, (path, value)
    case _:
      assert type(value) is schema, (path, value)


def _manifests(capsys, *flags, config='smoke'):
  words = ['gke', f'--config={config}', *_REQUIRED, *flags, '--dry_run']
  assert gke.main(words) == 0
  return [*yaml.safe_load_all(capsys.readouterr().out)]


def _job(made):
  (job,) = made['spec']['replicatedJobs']
  return job['replicas'], job['template']['spec']


def _command(made):
  (container,) = _job(made)[1]['template']['spec']['containers']
  return container['command']


@pytest.mark.parametrize('flags', [(), ('--shards=3',), _SLICE])
def test_a_manifest_is_a_job_set(capsys, flags):
  (made,) = _manifests(capsys, *flags)
  _check(made, _SET)
  names = {'SHARD', 'PROCESS'}
  (container,) = _job(made)[1]['template']['spec']['containers']
  assert {variable['name'] for variable in container['env']} == names


def test_shards_are_jobs(capsys):
  (made,) = _manifests(capsys, '--shards=3', '--devices=2', '--retries=5')
  replicas, job = _job(made)
  assert (replicas, job['completions'], job['backoffLimit']) == (3, 1, 5)
  assert _command(made)[-1] == '--shard=$(SHARD)/3'
  pod = job['template']['spec']
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-accelerator': 'nvidia-l4'
  }
  assert pod['containers'][0]['resources']['limits'] == {'nvidia.com/gpu': 2}
  rules = {
    rule['onExitCodes']['values'][0]: rule['action']
    for rule in job['podFailurePolicy']['rules']
    if 'onExitCodes' in rule
  }
  assert rules == {85: 'Ignore', 2: 'FailJob'}


def test_pods_of_a_slice_run_together(capsys):
  (made,) = _manifests(capsys, *_SLICE, '--shards=2', '--name=a')
  replicas, job = _job(made)
  assert (replicas, job['completions'], job['parallelism']) == (2, 4, 4)
  assert _command(made)[-5:] == [
    *('--shard=$(SHARD)/2', '--processes=4', '--process=$(PROCESS)'),
    *('--coordinator=a-worker-$(SHARD)-0.a:1234', '--join_seconds=300'),
  ]
  pod = job['template']['spec']
  assert pod['nodeSelector']['cloud.google.com/gke-tpu-topology'] == '4x4'
  codes = [rule.get('onExitCodes') for rule in job['podFailurePolicy']['rules']]
  assert [code['values'] for code in codes if code] == [[85]]


def test_what_a_config_says_reaches_no_shell(capsys):
  value = "--config.model.name=$(SHARD)'\n- `id`: $$"
  (made,) = _manifests(capsys, value)
  assert _command(made) == [
    *('python', '-m', 'giajax.main', '--config=smoke', '--workdir=/data/run'),
    value.replace('$', '$$'),
  ]


def test_a_config_file_travels_in_the_manifest(capsys, tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from giajax.engine import build\n\n\n'
    'def get_config(arg=None):  # \' "ä\n  return build.default_config()\n'
  )
  data, made = _manifests(capsys, config=f'{path}:big')
  assert data['data'] == {'config.py': path.read_text()}
  assert '--config=/etc/giajax/config.py:big' in _command(made)
  _check(made, _SET)
  pod = _job(made)[1]['template']['spec']
  assert pod['volumes'][1]['configMap'] == {'name': data['metadata']['name']}
  mounts = pod['containers'][0]['volumeMounts']
  assert mounts[1] == {'name': 'config', 'mountPath': '/etc/giajax'}


def test_a_bucket_needs_no_volume(capsys):
  (made,) = _manifests(
    capsys,
    *('--workdir=gs://b/run', '--claim=', '--service_account=writer'),
    '--secret=keys',
  )
  _check(made, _SET)
  pod = _job(made)[1]['template']['spec']
  assert pod['serviceAccountName'] == 'writer'
  assert pod['containers'][0]['envFrom'] == [{'secretRef': {'name': 'keys'}}]
  assert 'volumes' not in pod and 'volumeMounts' not in pod['containers'][0]
  assert '--workdir=gs://b/run' in _command(made)


@pytest.mark.parametrize(
  'flags, words',
  [
    (('--workdir=gs://',), 'a URL such as gs://bucket/run; got gs://'),
    (('--claim=',), 'a --claim, or a --workdir that is a URL; got /data/run'),
    (('--secret=A',), "a --secret that Kubernetes takes; got 'A'"),
    (('--workdir=/other',), 'a --workdir below --mount=/data'),
    (('--workdir=/data/../run',), 'a --workdir below --mount=/data'),
    (('--name=Run_1',), "a --name that Kubernetes takes; got 'Run_1'"),
    (('--name=1a',), "a --name that Kubernetes takes; got '1a'"),
    (('--name=' + 46 * 'a', '--shards=100'), 'write at most 45 characters'),
    (('--claim=a b',), "a --claim that Kubernetes takes; got 'a b'"),
    (('--namespace=-',), "a --namespace that Kubernetes takes; got '-'"),
    (('--accelerator=a/b',), "got 'a/b'"),
    (('--image=a b',), "got 'a b'"),
    (('--kind=gpus',), "did you mean 'gpu'"),
    (('--topology=4x4',), 'no --topology with --kind=gpu'),
    (('--kind=tpu',), 'got --topology= for --pods=1 with --devices=1'),
    ((*_SLICE, '--pods=8'), 'got --topology=4x4 for --pods=8 with --devices=4'),
    (('--config.seed=-1',), 'seed of at least'),
    (('--config.model.name={file}:Net',), 'which is a file of this machine'),
  ],
)
def test_mistakes_are_one_line(capsys, tmp_path, flags, words):
  file = tmp_path / 'net.py'
  file.touch()
  flags = [flag.replace('{file}', str(file)) for flag in flags]
  arguments = ['gke', '--config=smoke', *_REQUIRED, *flags, '--dry_run']
  assert gke.main(arguments) == 2
  out, err = capsys.readouterr()
  (line,) = err.splitlines()
  assert line.startswith('launch: Expected') and words in line
  assert not out


def test_the_longest_name_is_still_one(capsys):
  (made,) = _manifests(capsys, '--name=' + 45 * 'a', '--shards=100')
  assert len(f'{made["metadata"]["name"]}-worker-99-0-abcde') == 63


@pytest.mark.parametrize('code', [None, 0, 1])
def test_kubectl(capsys, monkeypatch, tmp_path, code):
  monkeypatch.setenv('PATH', str(tmp_path))
  if code is not None:
    kubectl = tmp_path / 'kubectl'
    kubectl.write_text(f'#!/bin/sh\necho "$1 made"\necho no >&2\nexit {code}\n')
    kubectl.chmod(0o755)
  done = gke.main(['gke', '--config=smoke', *_REQUIRED])
  out, err = capsys.readouterr()
  if code == 0:
    assert (done, out) == (0, 'create made\n')
  else:
    assert done == 2
    assert ('Kubernetes to take the manifest; got no;' in err) == (code == 1)
    assert len(err.splitlines()) == 1


def test_help(capsys):
  assert gke.main(['gke', '--help']) == 0
  assert capsys.readouterr().out.startswith(gke.__doc__.strip())
  assert jobset.CONFIG.startswith('/etc/')
