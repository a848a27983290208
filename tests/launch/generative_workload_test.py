"""Tests of the generative workloads: what a peer gets has the same losses."""

import functools
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import archives
from giajax import types
from giajax.attacks.parts import distances
from giajax.clients import fedsgd
from giajax.commands import process
from giajax.generative import GENERATORS
from giajax.models import convert
from giajax.models.classification import mlp
from giajax.tasks import classification
from launch import generative_workload
from launch import workload

_SHAPE, _CLASSES = (8, 8, 3), 16  # of the photographs
_TINY = {
  'ci_net': ({'name': 'ci_net', 'width': 2, 'latent': 3}, 2),
  'ggl': (
    {
      'name': 'ggl',
      'generator': {'name': 'conditional_dcgan', 'width': 2, 'latent': 4},
    },
    6,
  ),
  'lti': (
    {'name': 'lti', 'generator': {'name': 'lti', 'hashed': 64, 'width': 8}},
    3,
  ),
}


@functools.cache
def _measured(kind):
  entry, count = _TINY[kind]
  tiny = generative_workload.Workload('mlp', entry, count, size=8)
  # Without the second compilation and a cache that is gone afterwards.
  with mock.patch.object(workload, 'compiled_twice', _compiled):
    return generative_workload.measure(tiny, steps=2)


def _compiled(function, *inputs):
  return function.lower(*inputs).compile(), [2.0, 1.0]


@functools.cache
def _victim():
  """Returns the network of all cases, and its client's update."""
  net = mlp.mlp(_SHAPE, _CLASSES)
  client = fedsgd.fedsgd(net, classification.classification(_CLASSES))
  return net, jax.jit(client.update)


def _gradient(case, x, y):
  """Returns the gradient of images under the network of a case."""
  net, update = _victim()
  variables = convert.from_state_dict(archives.under(case, 'victim', ''), net)
  message, batch = types.ServerMessage(variables), types.Batch(x, y)
  return update(jax.random.key(0), message, batch)[0].delta


def _observed(case):
  arrays = archives.under(case, 'observed', '')
  return convert.from_state_dict(arrays, mlp.mlp(_SHAPE, _CLASSES)).params


def _generator(case, prefix, row, **options):
  generator = GENERATORS[row](_SHAPE, **options)
  arrays = archives.under(case, prefix, '')
  return generator, convert.from_state_dict(arrays, generator)


def test_ci_net_begins_where_the_case_says():
  figures, case = _measured('ci_net')
  distance = distances.lookup('cosine').on_gradients
  first, second = figures['losses']
  assert len(first) == len(case['z']) == 2 and first != second
  for i, loss in enumerate(first):
    generator, weights = _generator(
      case, f'generator.{i}', 'ci_net', latent=3, width=2
    )
    draw = jax.jit(lambda w, z, g=generator: g.apply(w, z, train=True).out)
    x = draw(weights, case['z'][i])
    found = distance(_gradient(case, x, case['y']), _observed(case))
    assert found == pytest.approx(loss, rel=1e-4)


def test_ggl_found_the_first_candidate_of_the_case():
  figures, case = _measured('ggl')
  generator, weights = _generator(
    case, 'generator', 'conditional_dcgan', num_classes=16, latent=4, width=2
  )
  ((loss,),) = figures['losses']
  assert len(case['z']) == 6

  draw = jax.jit(lambda z: generator.apply(weights, z, case['y']).out)

  def objective(z):
    x = draw(z[None])
    gradient = _gradient(case, x, case['y'])
    mean, variance = z.mean(), z.var()
    moments = (mean**2 + variance - 1 - np.log(variance)) / 2
    distance = distances.lookup('layer_l2').on_gradients
    return distance(gradient, _observed(case)) + 0.1 * moments

  assert objective(case['z'][0]) == pytest.approx(loss, rel=1e-4)
  assert objective(case['z'][1]) != pytest.approx(loss, rel=1e-3)


def test_lti_reads_the_sums_of_the_case():
  figures, case = _measured('lti')
  (first,), (second,) = figures['losses']
  assert first != second
  gradients = [
    _gradient(case, case['x'][i, None], case['y'][i, None]) for i in range(3)
  ]
  # What a peer does, with torch's names and layouts.
  every = [convert.to_state_dict(types.Variables(g, {})) for g in gradients]
  z = np.stack(
    [np.concatenate([g[n].ravel() for n in sorted(g)]) for g in every]
  )
  u = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-20)
  u = np.clip(u, -10, 10)
  sums = (u[:, case['entries']] * case['factors']).sum(1)

  generator, weights = _generator(
    case, 'generator', 'lti', entries=z.shape[1], hashed=64, width=8
  )
  own = jnp.stack(
    [
      jnp.concatenate([g.ravel() for g in jax.tree.leaves(g)])
      for g in gradients
    ]
  )
  read = generator.apply(weights, own, train=True, stop=1).out
  assert np.allclose(sums, read, atol=1e-3)
  x_hat = generator.apply(weights, own, train=True).out
  mse = jnp.mean(jnp.square(x_hat - case['x']))
  assert mse == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize('kind', _TINY)
def test_times_are_of_units(kind):
  figures, case = _measured(kind)
  count = _TINY[kind][1]
  assert figures['unit'] == generative_workload.UNITS[kind]
  assert figures['units_per_step'] == count and figures['steps'] == 2
  seconds = figures['ms_per_unit'] / 1e3
  assert figures['units_per_second'] == pytest.approx(1 / seconds)
  own = archives.under(case, 'victim', '').values()
  assert figures['parameters'] == sum(array.size for array in own)
  assert figures['generator_parameters'] > 100
  assert str(case['kind']) == kind and str(case['network']) == 'mlp'


def test_images_of_a_settled_generator_depend_on_latents():
  generator = GENERATORS['conditional_dcgan'](_SHAPE, 3, latent=4, width=2)
  z = jax.random.normal(jax.random.key(1), (8, 4))
  y = jnp.zeros(8, int)
  fresh = generator.init(jax.random.key(0))
  spreads = [
    generator.apply(weights, z, y).out.std(axis=0).mean()
    for weights in (fresh, generative_workload.settled(generator))
  ]
  assert spreads[1] > 20 * spreads[0]


def test_the_command_writes_the_case(monkeypatch, capsys, tmp_path):
  figures, case = _measured('lti')
  monkeypatch.setattr(process, 'use_machine', lambda: None)
  monkeypatch.setattr(
    generative_workload, 'measure', lambda *_: (figures, case)
  )
  path = tmp_path / 'case.npz'
  words = ['', 'lti:lenet', f'--case={path}']
  assert generative_workload.main(words) == 0
  assert json.loads(capsys.readouterr().out) == figures
  with np.load(path) as arrays:
    assert {*arrays.files} == {*case}


@pytest.mark.parametrize(
  'words, expected',
  [
    (['lti:lenets'], "did you mean 'lti:lenet'?"),
    (['lti:lenet', '--restarts=2'], '--restarts'),
    (['lti:lenet', '--steps=-1'], 'steps=-1'),
  ],
)
def test_mistakes_are_one_line(capsys, words, expected):
  assert generative_workload.main(['', *words]) == 2
  out, err = capsys.readouterr()
  assert out == '' and err.count('\n') == 1 and expected in err
