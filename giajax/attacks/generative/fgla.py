"""FGLA: features from the classifier's gradient, and images from the features.

Xue, Hu, Zhao, Wang and Feng, Fast Generation-Based Gradient Leakage Attacks
against Highly Compressed Gradients, INFOCOM 2023.

Assumed known: the model, the batch size, the labels, or a rule that infers
them, and auxiliary images with labels, of any number. The classifier W f + b
has, for image i of label y_i among B, the gradients

  (1)  dW_k = sum_i d_ik f_i    db_k = sum_i d_ik
       d_ik = (p_ik - [y_i = k]) / B

with p the softmax. Where it is nearly uniform, what the others add to row y_i
is (B - 1) / B of a row k of a class that is absent. With o_W and o_b this share
of the mean over absent classes,

  (2)  f_i = (dW_{y_i} - o_W) / (db_{y_i} - o_b)
  (3)  x_i = G(f_i)

(2) is exact for one image. For several, labels have to differ, and it errs more
the better the classifier is trained; images of one label share the mean of
their features. G is a decoder (`generative.fgla`) that learned to invert (2) on
updates which the attacker computed of auxiliary images (`learners.inversion`),
for the one message.

The score is 1 minus the cosine of the update of the images and the observed
one.

Differs from the authors' code: the decoder runs in inference mode, and learned
from (2) with its error; of n images of one label, the others are B - n.
"""

import jax
import jax.numpy as jnp

from giajax import require
from giajax import types
from giajax import world as worlds
from giajax.attacks import base
from giajax.attacks.parts import distances
from giajax.attacks.parts import inversion_networks
from giajax.generative import base as generative
from giajax.models import inspect


def fgla(world: worlds.World, *, generator: generative.Trained) -> base.Attack:
  """The images by a decoder of features, which the classifier gives away.

  Args:
    world: the attacker's picture of the system.
    generator: the decoder, a `generative.fgla`.

  Raises:
    ValueError: see `latents`; a generator of other images or features.
  """
  reader, features = latents(world), inspect.num_features(world.net)
  invert = inversion_networks.inverter(
    world, generator, reader, size=features, images=1
  )
  distance = distances.lookup('cosine').on_gradients

  def read(obs):
    y = obs.side['labels']
    batch = types.Batch(invert(obs, y), y)
    key = jax.random.key(0)  # of what the client draws, if anything
    update, _ = world.client.update(key, obs.message, batch)
    score = distance(update.delta, obs.update.delta)
    return types.Reconstruction(batch, jnp.ones(len(y), bool), score)

  return base.closed_form(read, needs={*inversion_networks.NEEDS, 'labels'})


def latents(world: worlds.World) -> inversion_networks.Latents:
  """Returns `(obs, y) -> [B, D]`, the features (2) of each image.

  Features that cannot be had are 0.

  Args:
    world: the attacker's picture of the system.

  Raises:
    ValueError: another task, a network without a classifier, one whose kernel
      or bias the client does not train, or more images than leave a class
      absent.
  """
  require.exclusive_classes(world, 'fgla')
  path, b = inspect.head(world.net), world.batch_size
  classes = world.net.spec.num_classes
  require.classifier_bias(world.net, 'fgla')
  if b >= classes:
    raise ValueError(
      f'Expected batch_size < {classes} classes for fgla, so that one is '
      f'absent; got batch_size={b}; lower it'
    )

  def read(obs, y):
    gradient = world.client.as_gradient(obs.update.delta)
    kernel, bias = base.kernel_and_bias(gradient, path)  # [D, K], [K]
    rows = jnp.concatenate([kernel.T, bias[:, None]], axis=1)
    counts = jnp.zeros(classes, rows.dtype).at[y].add(1)
    absent = (counts == 0).astype(rows.dtype)
    mean = absent @ rows / absent.sum()
    others = 1 - counts[y] / b
    own = rows[y] - others[:, None] * mean
    top, bottom = own[:, :-1], own[:, -1:]
    known = bottom != 0
    return jnp.where(known, top / jnp.where(known, bottom, 1), 0)  # (2)

  return read
