"""Image classifiers, built from layers with torch's semantics.

A row is `(image_shape, num_classes, *, normalisation, lowering, ...) -> Net`
and draws untrained weights; `convert` reads trained ones.
"""

import functools

from giajax.models import convnet
from giajax.models import lenet
from giajax.models import mlp
from giajax.models import resnet

MODELS = {
  'lenet': lenet.lenet,
  'lenet_relu': functools.partial(lenet.lenet, activation='relu'),
  'convnet': convnet.convnet,
  'mlp': mlp.mlp,
  'resnet18': functools.partial(resnet.resnet, depth=18),
  'resnet20': functools.partial(resnet.resnet, depth=20),
  'resnet32': functools.partial(resnet.resnet, depth=32),
  'resnet34': functools.partial(resnet.resnet, depth=34),
  'resnet44': functools.partial(resnet.resnet, depth=44),
  'resnet50': functools.partial(resnet.resnet, depth=50),
  'resnet56': functools.partial(resnet.resnet, depth=56),
}
