"""APRIL: a ViT's image, solved for from the gradient of its positions.

Lu, Zhang, Zhao, He and Cheng, APRIL: Finding the Achilles' Heel on Privacy for
Vision Transformers, CVPR 2022, arXiv 2112.14087. Tokens z [T, D] are embedded
patches plus a learned position each, p [T, D]. If an attention reads them as
they are, q = z W for queries, keys and values together (W [D, 3 D]), and
nothing else reads them, then for one image and any loss

  (1)  dL/dp = dL/dz = dL/dq W'      dL/dW = z' dL/dq

so that the tokens solve a linear system that the update states,

  (2)  (dL/dp)' z = W (dL/dW)'

with D equations for the T numbers of each column of z. The patches follow from
the tokens in the same way,

  (3)  z = z_0 + P E

with P [T, pixels of a patch], the kernel E of the patch embedding, and what the
network makes of an image of zeros, z_0, class token and positions included.
(2) and (3) are one system for P, solved by least squares in float64; what it
leaves is the score. The gradients of tokens are nearly dependent, so that the
update's own float32 bounds what comes back, the more loosely, the wider D is.

It is exact for a first block without the norm in front of its attention and
without the skip around it, as in the authors' architecture (A); the ViTs here
have `bare_first_attention`. A norm makes z in (1) and (2) its output, whose
gradient no parameter has; a skip adds an unknown to dL/dz. What follows the
first attention does not matter, as long as dL/dp has rank T: an encoder of one
block, of which only the class token is read, leaves less. Where the head is
zero, as torchvision draws it, only the head has a gradient: use `init='timm'`.

Assumed known: the model, and that the batch has one image. The label comes from
the last layer (`labels.idlg`). All parts are found by passing a random image
through random weights.

Differs from the authors: the tokens are known to be z_0 plus a product with E,
which leaves fewer unknowns than z has entries; columns have unit length.
"""

import functools
import math
from typing import cast, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from giajax import require
from giajax import trees
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import compose
from giajax.attacks.parts import labels
from giajax.models import base as models
from giajax.models import inspect
from giajax.ops import geometries
from giajax.ops import patches

_TINY = 1e-30
# What cancels leaves less than this of what does not.
_ROUNDING = 1e-2
# Singular values below this share of the largest are rounding of the gradient.
_RCOND = float(jnp.finfo(jnp.float32).eps)


class Front(NamedTuple):
  """What stands before the first attention, and its input.

  Attributes:
    embedding: the path of the convolution that embeds patches.
    positions: the path of the position embedding.
    attention: the path of the linear layer of queries, keys and values.
    side: (height, width) of a patch.
    count: the number of patches; the last so many tokens are theirs.
  """

  embedding: str
  positions: str
  attention: str
  side: tuple[int, int]
  count: int


def april(world: worlds.World) -> base.Attack:
  """The image of a ViT, from its position embedding's gradient; exact.

  Args:
    world: the attacker's picture of the system, with batch_size 1, a client
      that takes one step, and a ViT with learned positions whose first
      attention has neither a norm in front of it nor a skip around it.

  Raises:
    ValueError: a batch of more than one image, several local steps, dropout in
      training, another network, positions or attention that the client does not
      train, or features of a token fewer than tokens or pixels of a patch.
  """
  net, client = world.net, world.client
  require.batch_of_one(
    world, 'april', advice='lower it: gradients of several images add up'
  )
  require.one_step(
    client, 'april', advice='use fedsgd: later ones have other weights'
  )
  require.no_random_layers(
    net, 'april', train=client.train_mode, advice='build it without dropout'
  )
  front = _front(net)
  _require_read_alone(net, front)
  read = functools.partial(_read, world, front)
  attack = base.closed_form(read, needs={'model', 'batch_size', 'labels'})
  return compose.with_labels(attack, labels.of_one_image(world))


def _front(net: models.Net) -> Front:
  """Returns the parts in front of the first attention, by their shapes."""
  positions = inspect.positions(net, 'april')
  sites = inspect.sites(net)
  embedding, conv = next(iter(sites.items()))
  attention = next((p for p, s in sites.items() if s.kind == 'linear'), None)
  shapes = trees.named_leaves(models.whole(inspect.abstract_variables(net)))
  if conv.kind != 'conv' or attention is None:
    raise _no_vit(net, 'does not begin with a convolution')
  side = shapes[f'{embedding}.kernel'].shape[:2]
  if conv.geometry != geometries.Geometry(side):
    raise _no_vit(net, 'embeds patches that overlap')
  h, w, _ = net.spec.image_shape
  count = (h // side[0]) * (w // side[1])
  front = Front(embedding, positions, attention, side, count)
  tokens, width = shapes[f'{positions}.value'].shape[1:]
  inner = math.prod(shapes[f'{embedding}.kernel'].shape[:3])
  if shapes[f'{attention}.kernel'].shape != (width, 3 * width):
    raise _no_vit(net, f'reads its tokens first in {attention!r}')
  if width < max(tokens, inner):
    raise ValueError(
      'Expected as many features of a token as there are tokens, and pixels '
      f'of a patch, for april; got {net.spec.name} with {width} features, '
      f'{tokens} tokens and {inner} values of a patch; widen it'
    )
  trained = {f'{positions}.value', f'{attention}.kernel'}
  if frozen := sorted(trained - inspect.leaf_names(net)):
    raise ValueError(
      'Expected an update that covers the positions and the first attention '
      f'for april; got one without {", ".join(frozen)}; train them'
    )
  return front


def _require_read_alone(net: models.Net, front: Front) -> None:
  """Requires that the first attention alone reads the tokens, as they are.

  What is added to the positions can then be taken away again behind the
  attention's linear layer.
  """
  rng = np.random.default_rng(0)

  def drawn(shape):
    return 0.1 * rng.normal(size=shape).astype(np.float32)

  # Weights that are zero at the start would hide what they lead to.
  fresh = inspect.abstract_variables(net)
  variables = jax.tree.map(lambda leaf: drawn(leaf.shape), fresh)._replace(
    stats=jax.tree.map(
      lambda leaf: np.ones(leaf.shape, np.float32), fresh.stats
    )
  )
  x = jnp.asarray(rng.uniform(size=net.spec.image_shape), jnp.float32)
  weights = trees.named_leaves(models.whole(variables))
  step = drawn((1, *weights[f'{front.positions}.value'].shape[1:]))
  away = -step @ weights[f'{front.attention}.kernel']
  tap = f'{front.attention}.input'
  probe = cast(models.ProbeFn, net.probe)  # `inspect.sites` has asked for it

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, 0, 0))
  def run(variables, ahead, back):
    shapes = jax.eval_shape(lambda: probe(variables, x[None], None)[2])
    offsets = {p: jnp.zeros(v.shape) for p, v in shapes.items()}
    offsets[front.positions] += ahead * step
    offsets[front.attention] += back * away
    output = probe(variables, x[None], offsets, taps=(tap,))[0]
    return output.out, output.taps[tap][0]

  with jax.default_matmul_precision('highest'):
    out, tokens = run(variables, jnp.array([0.0, 1, 1]), jnp.array([0.0, 0, 1]))
    z_0, kernel = _tokens(net, front, variables), _kernel(front, weights)
    rows = _unfolded(models.normalise(x[None], net.spec), front)
    expected = z_0.at[-front.count :].add(rows @ kernel)
  if not _norm(tokens[0] - expected) < _ROUNDING * _norm(expected - z_0):
    raise _no_vit(net, 'changes its tokens in front of it, as a norm does')
  if not _norm(out[2] - out[0]) < _ROUNDING * _norm(out[1] - out[0]):
    raise _no_vit(net, 'reads its tokens elsewhere, too, as a skip does')


def _norm(v: types.Array) -> types.Array:
  return jnp.sqrt(jnp.sum(jnp.square(v)))


def _no_vit(net: models.Net, why: str) -> ValueError:
  return ValueError(
    'Expected a ViT with learned positions and a first attention without a '
    f'norm and a skip for april; got {net.spec.name}, which {why}; use '
    'vit_tiny with bare_first_attention=True'
  )


def _tokens(net, front, variables):
  """Returns z_0, what the attention reads of a normalised image of zeros."""
  x = jnp.broadcast_to(jnp.asarray(net.spec.mean), net.spec.image_shape)
  tap = f'{front.attention}.input'
  return net.apply(variables, x[None], taps=(tap,)).taps[tap][0]


def _unfolded(x, front):
  """Maps a normalised image [1, H, W, C] to its patches [count, pixels]."""
  rows = patches.unfold(x, front.side, geometries.Geometry(front.side))
  return rows.reshape(front.count, -1)


def _folded(rows, front, image_shape):
  """Maps patches [count, pixels] back to an image [H, W, C]."""
  (h, w, c), (kh, kw) = image_shape, front.side
  x = rows.reshape(h // kh, w // kw, kh, kw, c)
  return x.swapaxes(1, 2).reshape(h, w, c)


def _kernel(front, weights):
  """Returns E [pixels of a patch, D] of (3)."""
  kernel = weights[f'{front.embedding}.kernel']
  return kernel.reshape(-1, kernel.shape[-1])


def _read(world, front, obs):
  """Solves (2) and (3) for the patches."""
  net, variables = world.net, obs.message.variables
  weights = trees.named_leaves(models.whole(variables))
  gradients = trees.named_leaves(world.client.as_gradient(obs.update.delta))
  name = f'{front.attention}.kernel'
  with jax.default_matmul_precision('highest'):
    z_0 = _tokens(net, front, variables)
  given = (
    gradients[f'{front.positions}.value'][0],
    weights[name],
    gradients[name],
    _kernel(front, weights),
    z_0,
  )
  # The gradients of tokens are nearly dependent: float32 would cost 20 dB.
  with jax.enable_x64(True):
    rows, score = _solved(front, *(v.astype(jnp.float64) for v in given))
    rows, score = rows.astype(z_0.dtype), score.astype(z_0.dtype)
  x = _folded(rows, front, net.spec.image_shape)
  x = x * jnp.asarray(net.spec.std) + jnp.asarray(net.spec.mean)
  batch = types.Batch(jnp.clip(x, 0.0, 1.0)[None], obs.side['labels'])
  return types.Reconstruction(batch, given[0].any()[None], score)


def _solved(front, slopes, weight, gradient, kernel, z_0):
  """Returns P by least squares, and what is left, relative and squared."""
  right = weight @ gradient.T - slopes.T @ z_0
  slopes = slopes[-front.count :]
  lengths = trees.safe_sqrt(jnp.square(slopes).sum(1), _TINY)[:, None]
  tokens = jnp.linalg.lstsq((slopes / lengths).T, right, _RCOND)[0] / lengths
  rows = jnp.linalg.lstsq(kernel.T, tokens.T)[0].T
  residual = trees.squared_norm(slopes.T @ (rows @ kernel) - right)
  return rows, residual / jnp.maximum(trees.squared_norm(right), _TINY)
