"""The records that travel between clients, attacks and the engine.

Axis glossary, used in every shape comment of this package:

  B      images in a client's batch
  H W C  height, width, channels of an image
  K      classes
  N      points of an experiment (sweep value x case)
  R      restarts of an attack
  T      steps of an attack
  M      slots of a reconstruction (at least as many as it found images)

Every record is a NamedTuple of arrays or pytrees, so that all of them can be
vmapped, scanned, sharded and saved.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
# A nested dict of arrays whose joined keys are torch's parameter names.
Tree = Any
# Traced knobs of an attack, by name: a change never recompiles.
HParams = Mapping[str, Array | float]


class Batch(NamedTuple):
  """Images and their targets: labels, or whatever the task trains for."""

  x: Array  # [B, H, W, C] float32 in [0, 1]
  # [B] int32 class indices, or another form of the task: a tree of [B, ...]
  y: Any


class Variables(NamedTuple):
  """Everything a network needs to be evaluated."""

  params: Tree  # trained by the client
  stats: Tree  # BatchNorm running statistics, {} if there are none
  frozen: Tree = ()  # parameters that the client does not train, () for none


class Output(NamedTuple):
  """What one forward pass of a network returns."""

  out: Any  # [B, K] float32 logits, or another tree of [B, ...]
  stats: Tree  # the running statistics after this pass
  taps: Mapping[str, Array]  # activations that were asked for, by name
  # [] nats, what the network itself adds to the mean loss
  penalty: Array | np.float32 = np.float32(0)


class ServerMessage(NamedTuple):
  """What the server sends to the client, or to each client of an aggregate."""

  variables: Variables
  # [clients, ...] by dotted name of a parameter: what each client of an
  # aggregate receives in its place; () for nothing
  each: Mapping[str, Array] | tuple[()] = ()


# Stands for a message that is kept elsewhere.
NO_MESSAGE = ServerMessage(Variables((), ()))


class Update(NamedTuple):
  """What the client sends back."""

  delta: Tree  # like params; the gradient for FedSGD
  stats: Tree  # the client's BatchNorm buffers after training
  size: Array  # [] int32, the number of examples behind it


class Observation(NamedTuple):
  """All that the attacker sees."""

  message: ServerMessage
  update: Update
  side: Mapping[str, Any]  # exactly what the threat model grants, by name


class Reconstruction(NamedTuple):
  """What an attack claims to have found."""

  batch: Batch  # over M slots; a y of [M] int32 -1 claims no target
  valid: Array  # [M] bool: the slot holds an image
  score: Array  # [] float32, the attacker's own objective; lower is better


class Info(NamedTuple):
  """What one step of an attack reports."""

  loss: Array  # [] float32, the objective before the step
  terms: Mapping[str, Array]  # the parts of the objective, unweighted, by name
  finite: Array  # [] bool: loss and new state are free of NaN and inf
