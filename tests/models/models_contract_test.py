"""What every row of MODELS promises."""

from golden import draws
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from giajax import models
from giajax import registry
from giajax import trees
from giajax.models import base

# At 32x32x3 with 10 classes and default options.
PARAMETERS = {
  'convnet': 2_904_970,
  'lenet': 19_438,
  'lenet_relu': 19_438,
  'mlp': 789_258,
  'resnet18': 11_173_962,
  'resnet20': 269_722,
  'resnet32': 464_154,
  'resnet34': 21_282_122,
  'resnet44': 658_586,
  'resnet50': 23_520_842,
  'resnet56': 853_018,
}
# Without BatchNorm, the two modes are one.
MOMENTS = [
  (name, mode)
  for name, case in draws.CASES.items()
  for mode in case.quick
  if mode == 'eval' or name not in ('lenet', 'mlp')
]
SMALL = ['convnet', 'lenet', 'mlp']


@pytest.mark.parametrize('name', models.MODELS)
def test_number_of_parameters(name):
  net = models.MODELS[name]((32, 32, 3), 10)
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  assert base.count(abstract) == PARAMETERS[name]


def test_every_counted_model_exists():
  assert PARAMETERS.keys() == models.MODELS.keys()


@pytest.mark.parametrize('name', models.MODELS)
def test_summary_names_what_the_row_binds(name):
  text = registry.summary(models.MODELS[name])
  assert text
  assert 'partial' not in text
  if name == 'resnet34':
    assert text.endswith('[depth=34]')


@pytest.mark.parametrize('name', models.MODELS)
def test_options_are_validated(name):
  with pytest.raises(ValueError, match=r'Expected.*normalisation.*did you'):
    models.MODELS[name](normalisation='cifar')
  with pytest.raises(ValueError, match=r'Expected image_shape'):
    models.MODELS[name]((32, 32, 0), 10)


@pytest.mark.parametrize('name', draws.CASES)
def test_forward_shapes_without_computing(name, subject, precision):
  s = subject(name)
  case = draws.CASES[name]
  for train in (False, True):
    with precision(name):
      output = jax.eval_shape(
        lambda v, x, t=train: s.net.apply(v, x, train=t), s.variables, s.x
      )
    assert output.out.shape == (draws.BATCH_SIZE, case.num_classes)
    assert output.out.dtype == s.x.dtype
    structure = jax.tree.map(lambda a: (a.shape, a.dtype), output.stats)
    assert structure == jax.tree.map(
      lambda a: (a.shape, a.dtype), s.variables.stats
    )


@pytest.mark.parametrize('name', [*SMALL, 'resnet20'])
def test_abstract_init_equals_concrete_init(name, quick_jit):
  case = draws.CASES[name]
  net = models.MODELS[case.row](
    case.image_shape, case.num_classes, **case.options
  )
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  init = quick_jit(net.init)
  a, b, c = (init(jax.random.key(seed)) for seed in (0, 0, 1))
  assert jax.tree.map(lambda s: (s.shape, s.dtype), abstract) == (
    jax.tree.map(lambda s: (s.shape, s.dtype), a)
  )
  assert trees.all_finite(a)
  jax.tree.map(np.testing.assert_array_equal, a, b)
  other = trees.named_leaves(c.params)
  for leaf, value in trees.named_leaves(a.params).items():
    if leaf.endswith('kernel'):
      assert np.all(np.asarray(value) != np.asarray(other[leaf])), leaf


@pytest.mark.parametrize('name', SMALL)
def test_vmap_over_variables_equals_a_loop(name, subject, quick_jit):
  s = subject(name)
  other = jax.tree.map(lambda v: 1.1 * v, s.variables)
  both = jax.tree.map(lambda a, b: jnp.stack([a, b]), s.variables, other)

  def apply(variables):
    return s.net.apply(variables, s.x, train=True)[:2]

  found = quick_jit(jax.vmap(apply))(both)
  loop = quick_jit(apply)
  for i, variables in enumerate((s.variables, other)):
    for a, b in zip(
      jax.tree.leaves(jax.tree.map(lambda v, i=i: v[i], found)),
      jax.tree.leaves(loop(variables)),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('name', ['lenet', 'mlp'])
def test_jit_equals_no_jit(name, subject, evaluate):
  s = subject(name)
  output = s.net.apply(s.variables, s.x)
  np.testing.assert_allclose(
    output.out, evaluate(name, False).output.out, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(('name', 'mode'), MOMENTS)
def test_moments_equal_those_of_the_gradient(
  name, mode, subject, evaluate, quick_jit
):
  train = mode == 'train'
  s, explicit = subject(name), evaluate(name, train)

  @quick_jit
  def moments(x, observed):
    return base.gradient_moments(
      s.net, s.loss_fn, s.variables, x, observed, train=train
    )

  found, output = moments(s.x, explicit.observed)
  g = trees.named_leaves(explicit.gradient)
  t = trees.named_leaves(explicit.observed)
  assert found.dot.keys() == found.squared.keys() == g.keys()
  scale = max(float(np.linalg.norm(v)) for v in [*g.values(), *t.values()])
  for leaf in g:
    a, b = np.asarray(g[leaf], np.float64), np.asarray(t[leaf], np.float64)
    tolerance = dict(rtol=1e-4, atol=1e-6 * scale**2)
    np.testing.assert_allclose(found.dot[leaf], (a * b).sum(), **tolerance)
    np.testing.assert_allclose(found.squared[leaf], (a * a).sum(), **tolerance)
    np.testing.assert_allclose(found.target[leaf], (b * b).sum(), **tolerance)
  np.testing.assert_allclose(
    output.out, explicit.output.out, rtol=1e-4, atol=1e-5
  )
