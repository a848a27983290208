"""The manifest of a JobSet of Kubernetes: a Job for each shard of a run.

It is `jobset.x-k8s.io/v1alpha2`, see https://jobset.sigs.k8s.io.
"""

from collections.abc import Sequence
import math
import pathlib
import re
from typing import Any, NamedTuple

from giajax import interrupts
from giajax import registry

from . import shards

CONFIG = '/etc/giajax/config.py'  # where pods find a config file of the user's
_PORT = 1234  # at which the pods of a Job find their first one
_WORKER = 'worker'
_MISTAKE = 2  # the exit code of a command that nothing helps
# What a pod knows of itself, as variables that its command names.
_FACTS = {
  'SHARD': "metadata.annotations['jobset.sigs.k8s.io/job-index']",
  'PROCESS': "metadata.annotations['batch.kubernetes.io/job-completion-index']",
}
# The resource of each kind of accelerator, and the label of its nodes.
_KINDS = {
  'gpu': ('nvidia.com/gpu', 'cloud.google.com/gke-accelerator'),
  'tpu': ('google.com/tpu', 'cloud.google.com/gke-tpu-accelerator'),
}
_TOPOLOGY = 'cloud.google.com/gke-tpu-topology'
_LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'  # RFC 1123
_NAME = rf'({_LABEL}(\.{_LABEL})*)?'
_MOST = 63  # characters of a name, with what Kubernetes adds to it


class Needs(NamedTuple):
  """What the pods need, as the flags of the same names."""

  image: str
  accelerator: str
  claim: str = ''
  service_account: str = ''
  secret: str = ''
  kind: str = 'gpu'
  topology: str = ''
  devices: int = 1
  pods: int = 1
  shards: int = 1
  mount: str = '/data'
  retries: int = 3
  grace: int = 60
  name: str = 'giajax'
  namespace: str = 'default'


def manifests(
  words: Sequence[str], needs: Needs, config: str = ''
) -> list[dict[str, Any]]:
  """Returns the manifests to create, in order.

  Args:
    words: the command of a run, without shards.
    needs: what its pods need.
    config: the text of the file that pods find at `CONFIG`, if there is one.

  Raises:
    ValueError: a name that Kubernetes refuses, or chips that are not shared.
  """
  check(needs)
  place = {'name': needs.name, 'namespace': needs.namespace}
  made = {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': place,
    'spec': {
      'network': {'enableDNSHostnames': True, 'publishNotReadyAddresses': True},
      'replicatedJobs': [
        {
          'name': _WORKER,
          'replicas': needs.shards,
          'template': {'spec': _job(words, needs, bool(config))},
        }
      ],
    },
  }
  if not config:
    return [made]
  data = {
    'apiVersion': 'v1',
    'kind': 'ConfigMap',
    'metadata': place,
    'data': {pathlib.Path(CONFIG).name: config},
  }
  return [data, made]


def check(needs: Needs) -> None:
  """Raises ValueError for what Kubernetes or GKE would refuse."""
  registry.lookup(_KINDS, needs.kind, 'kind of accelerator')
  last = f'{needs.name}-{_WORKER}-{needs.shards - 1}-{needs.pods - 1}-abcde'
  names = {
    # A service has the name of the set, and begins with a letter.
    'name': ('[a-z]([-a-z0-9]*[a-z0-9])?', _MOST - len(last) + len(needs.name)),
    'namespace': (_LABEL, _MOST),
    **dict.fromkeys(('claim', 'service_account', 'secret'), (_NAME, 253)),
    'accelerator': ('[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?', _MOST),
    'image': (r'[\w./:@-]+', 4096),
    'mount': ('(/[^/:]+)+', 4096),
  }
  for flag, (form, most) in names.items():
    text = getattr(needs, flag)
    if not re.fullmatch(form, text, re.ASCII) or len(text) > most:
      raise ValueError(
        f'Expected a --{flag} that Kubernetes takes; got {text!r}; write at '
        f'most {most} characters of the form {form}'
      )
  _check_chips(needs)


def _check_chips(needs: Needs) -> None:
  """Raises ValueError unless the pods share the chips of a slice."""
  if needs.kind != 'tpu':
    if needs.topology:
      raise ValueError(
        f'Expected no --topology with --kind={needs.kind}; got '
        f'--topology={needs.topology}; leave it out'
      )
    return
  fits = re.fullmatch('[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){1,2}', needs.topology)
  chips = math.prod(map(int, needs.topology.split('x'))) if fits else 0
  if chips != needs.pods * needs.devices:
    raise ValueError(
      'Expected a --topology whose chips are those of all pods of a shard; got '
      f'--topology={needs.topology} for --pods={needs.pods} with '
      f'--devices={needs.devices} each; write, for instance, 4x4 for 4 with 4'
    )


def _job(words: Sequence[str], needs: Needs, mounted: bool) -> dict[str, Any]:
  """Returns the specification of the Job of one shard."""
  codes = {'containerName': _WORKER, 'operator': 'In'}
  stopped = {**codes, 'values': [interrupts.STOPPED]}
  lost = {'type': 'DisruptionTarget', 'status': 'True'}
  rules = [
    {'action': 'Ignore', 'onExitCodes': stopped},
    {'action': 'Ignore', 'onPodConditions': [lost]},
  ]
  if needs.pods == 1:  # or it may be the echo of another pod's end
    mistake = {**codes, 'values': [_MISTAKE]}
    rules.append({'action': 'FailJob', 'onExitCodes': mistake})
  return {
    'completionMode': 'Indexed',
    'completions': needs.pods,
    'parallelism': needs.pods,
    'backoffLimit': needs.retries * needs.pods,
    'podFailurePolicy': {'rules': rules},
    'template': {'spec': _pod(words, needs, mounted)},
  }


def _pod(words: Sequence[str], needs: Needs, mounted: bool) -> dict[str, Any]:
  """Returns the specification of a pod."""
  resource, label = _KINDS[needs.kind]
  selector = {label: needs.accelerator}
  if needs.topology:
    selector[_TOPOLOGY] = needs.topology
  container: dict[str, Any] = {
    'name': _WORKER,
    'image': needs.image,
    'command': _command(words, needs),
    'env': [
      {'name': name, 'valueFrom': {'fieldRef': {'fieldPath': path}}}
      for name, path in _FACTS.items()
    ],
    'resources': {'limits': {resource: needs.devices}},
  }
  pod: dict[str, Any] = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': needs.grace,
    'nodeSelector': selector,
    'containers': [container],
  }
  if needs.secret:
    container['envFrom'] = [{'secretRef': {'name': needs.secret}}]
  if needs.service_account:
    pod['serviceAccountName'] = needs.service_account
  if volumes := _volumes(needs, mounted):
    pod['volumes'] = [{'name': n, **kind} for n, (kind, _) in volumes.items()]
    container['volumeMounts'] = [
      {'name': name, 'mountPath': path} for name, (_, path) in volumes.items()
    ]
  return pod


def _volumes(
  needs: Needs, mounted: bool
) -> dict[str, tuple[dict[str, Any], str]]:
  """Returns what each volume is and where pods see it, by its name."""
  found = {}
  if needs.claim:
    claim = {'persistentVolumeClaim': {'claimName': needs.claim}}
    found['data'] = claim, needs.mount
  if mounted:
    data = {'configMap': {'name': needs.name}}
    found['config'] = data, str(pathlib.Path(CONFIG).parent)
  return found


def _command(words: Sequence[str], needs: Needs) -> list[str]:
  """Returns the command of a pod, in which Kubernetes replaces $(NAME)."""
  command = [word.replace('$', '$$') for word in words]
  if needs.shards > 1:
    command.append(shards.shard('$(SHARD)', needs.shards))
  if needs.pods > 1:
    first = f'{needs.name}-{_WORKER}-$(SHARD)-0.{needs.name}:{_PORT}'
    command += shards.process('$(PROCESS)', needs.pods, first)
  return command
