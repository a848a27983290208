"""The least work in which each row of ATTACKS shows all that it does."""

import functools
from typing import Any, NamedTuple

import jax

from giajax.clients import fedavg
from giajax.clients import fedsgd
from giajax.generative import base as generative
from giajax.generative import GENERATORS
from giajax.models import subset
from giajax.models.classification import mlp
from giajax.models.classification import resnet
from giajax.models.classification import vit

STEPS = 3


def trained(row, *args, **kwargs):
  """Returns a generator whose images depend on its latents."""
  generator = GENERATORS[row](*args, **kwargs, width=2, lowering='lax')
  weights = generator.init(jax.random.key(0))
  params = jax.tree.map(lambda w: 20.0 * w, weights.params)
  return generative.Trained(generator, weights._replace(params=params), '')


class Setup(NamedTuple):
  """The least work in which a row shows all that it does."""

  net: Any = functools.partial(
    mlp.mlp, (4, 4, 1), 4, widths=(8,), activation='tanh'
  )
  batch_size: int = 1
  kwargs: Any = ()
  train_mode: bool = False
  client: Any = fedsgd.fedsgd
  slots: int | None = None  # those of the reconstruction, if not B
  clients: int = 1
  steps: int = STEPS


_CLASSES = trained('conditional_dcgan', (8, 8, 1), 4, latent=3, embedding=2)
_FACES = trained('dcgan', (8, 8, 3), latent=3)
_LBFGS = dict(num_steps=STEPS, memory_size=2, max_linesearch_steps=3)
_COLOURED = functools.partial(
  mlp.mlp, (4, 4, 3), 4, widths=(8,), normalisation='cifar10'
)
_RECTIFIED = functools.partial(
  mlp.mlp, (4, 4, 3), 4, widths=(16,), normalisation='cifar10'
)
_NORMED = Setup(
  net=functools.partial(
    resnet.resnet,
    (4, 4, 3),
    4,
    depth=18,
    blocks=(1,),
    width=0.05,
    normalisation='cifar10',
  ),
  batch_size=2,
  kwargs=dict(num_steps=STEPS, total_variation=1e-3, bn_statistics=0.1),
  train_mode=True,
)
_CONDITIONAL = Setup(
  net=functools.partial(mlp.mlp, (8, 8, 1), 4, widths=(8,), activation='tanh'),
  batch_size=2,
)
_GENERATED = Setup(
  net=functools.partial(mlp.mlp, (8, 8, 3), 4, widths=(8,), activation='tanh'),
  batch_size=2,
)
_PATCHED = functools.partial(
  vit.vit, (4, 4, 1), 4, patch=2, width=8, heads=2, depth=2, init='timm'
)
SETUPS = {
  'april': Setup(functools.partial(_PATCHED, bare_first_attention=True)),
  'april_optimisation': Setup(
    _PATCHED, 2, dict(num_steps=STEPS, total_variation=1e-3)
  ),
  'dimitrov': Setup(
    batch_size=2,
    kwargs=dict(num_steps=STEPS),
    client=functools.partial(
      fedavg.fedavg, num_images=2, epochs=2, batch_size=1, shuffle=False
    ),
  ),
  'beyond_inferring': Setup(_COLOURED, 2, _LBFGS),
  'ci_net': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(num_steps=STEPS, latent=3, width=3),
  ),
  'cocktail_party': Setup(
    _COLOURED, 3, dict(num_steps=STEPS, learning_rate=3e-3)
  ),
  'dlg': Setup(batch_size=2, kwargs=_LBFGS),
  'estimate': _NORMED,
  'fishing': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(
      num_steps=STEPS,
      feature_rounds=2,
      total_variation=1e-3,
      features=1e-3,
      warmup_steps=1,
    ),
    slots=1,
  ),
  'fgla': _CONDITIONAL._replace(
    kwargs=dict(generator=trained('fgla', (8, 8, 1), features=8, grid=2))
  ),
  'ggl': _CONDITIONAL._replace(
    kwargs=dict(
      generator=_CLASSES, evaluations=5 * STEPS, population=5, moments=0.1
    )
  ),
  'ggl_adam': _CONDITIONAL._replace(
    kwargs=dict(
      generator=_CLASSES, num_steps=STEPS, learning_rate=0.02, moments=0.01
    )
  ),
  'gias': _GENERATED._replace(
    kwargs=dict(
      generator=_FACES, num_steps=4, latent_steps=2, total_variation=0.1
    ),
    steps=4,
  ),
  'gifd': _GENERATED._replace(
    kwargs=dict(generator=_FACES, num_steps=STEPS, total_variation=0.1, l2=0.01)
  ),
  'grad_inversion': _NORMED._replace(
    kwargs=dict(
      num_steps=STEPS,
      matching=1.0,
      total_variation=1e-3,
      l2=1e-3,
      bn_statistics=1e-2,
      noise=0.01,
      warmup_steps=1,
    ),
    train_mode=False,
  ),
  'grnn': Setup(
    net=functools.partial(
      mlp.mlp, (8, 8, 1), 4, widths=(8,), activation='tanh'
    ),
    batch_size=2,
    kwargs=dict(num_steps=STEPS, latent=3, width=3, total_variation=0.1),
  ),
  'huang': _NORMED,
  'idlg': Setup(kwargs=_LBFGS),
  'inverting_gradients': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(num_steps=STEPS, total_variation=1e-3),
  ),
  'linear_layer': Setup(),
  'lora_generator': Setup(
    lambda: subset.subset(
      vit.vit(
        (8, 8, 1),
        4,
        patch=4,
        width=8,
        heads=2,
        depth=1,
        init='timm',
        lora_rank=2,
      ),
      include=('*.lora_?.*',),
    ),
    2,
    dict(num_steps=STEPS, latent=3, width=3, total_variation=0.01, patch=0.01),
  ),
  'lti': Setup(
    batch_size=2,
    kwargs=dict(
      generator=trained('lti', (4, 4, 1), entries=172, batch_size=2, hashed=32)
    ),
  ),
  'mkor': Setup(_RECTIFIED, 2),
  'loki': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(bins=8, location=0.5, scale=0.06),
    clients=2,
  ),
  'modern': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(
      num_steps=STEPS, total_variation=1e-3, features=1e-3, warmup_steps=1
    ),
  ),
  'multiscale': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(num_steps=STEPS, total_variation=0.05),
  ),
  'partial_matching': Setup(
    net=_COLOURED,
    batch_size=2,
    kwargs=dict(num_steps=STEPS, total_variation=1e-3),
  ),
  'r_gap': Setup(
    functools.partial(
      mlp.mlp, (4, 4, 1), 4, widths=(8,), activation='leaky_relu'
    ),
    kwargs=dict(iterations=10),
  ),
  'robbing_the_fed': Setup(_COLOURED, 2, dict(bins=50)),
  'running': _NORMED,
  'sapag': Setup(_COLOURED, 2, dict(num_steps=STEPS)),
  'trap_weights': Setup(_RECTIFIED, 2, dict(peelings=2)),
  'spear': Setup(
    functools.partial(mlp.mlp, (4, 4, 1), 4, widths=(24,)),
    2,
    dict(num_steps=STEPS, samples=16, descents=5),
  ),
  'wei': Setup(_COLOURED, 2, _LBFGS | dict(start='tiled:2')),
}
