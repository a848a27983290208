"""Networks for images, built from layers with torch's semantics.

A row is `(image_shape, num_classes, *, normalisation, lowering, ...) -> Net`
and draws untrained weights; `convert` reads trained ones. It returns logits
[B, K], or, if it is one of `DETECTORS`, those of boxes and of their classes.
"""

import functools

from giajax.models.classification import alexnet
from giajax.models.classification import cnn6
from giajax.models.classification import convnet
from giajax.models.classification import convnext
from giajax.models.classification import densenet
from giajax.models.classification import efficientnet
from giajax.models.classification import googlenet
from giajax.models.classification import lenet
from giajax.models.classification import maxvit
from giajax.models.classification import mlp
from giajax.models.classification import mobilenet_v2
from giajax.models.classification import mobilenet_v3
from giajax.models.classification import resnet
from giajax.models.classification import swin
from giajax.models.classification import vgg
from giajax.models.classification import vit
from giajax.models.detection import detr
from giajax.models.detection import yolov8
from giajax.models.detection import yolov8_basicblock

# For objects and where they are: a Net of these returns a dict of `boxes` and
# `scores`.
DETECTORS = {
  'detr_resnet50': detr.detr,
  'yolov8n': yolov8.yolov8,
  'yolov8n_basicblock': yolov8_basicblock.yolov8_basicblock,
}
MODELS = {
  'alexnet': alexnet.alexnet,
  'cnn6': cnn6.cnn6,
  'convnet': convnet.convnet,
  'convnext_tiny': convnext.convnext,
  'convnext_small': functools.partial(
    convnext.convnext, depths=(3, 3, 27, 3), stochastic_depth=0.4
  ),
  'convnext_base': functools.partial(
    convnext.convnext, width=128, depths=(3, 3, 27, 3), stochastic_depth=0.5
  ),
  'densenet121': densenet.densenet,
  'efficientnet_b0': functools.partial(efficientnet.efficientnet, variant='b0'),
  'efficientnet_v2_s': functools.partial(
    efficientnet.efficientnet, variant='v2_s'
  ),
  'googlenet': googlenet.googlenet,
  'lenet': lenet.lenet,
  'lenet_relu': functools.partial(lenet.lenet, activation='relu'),
  'maxvit_tiny': maxvit.maxvit,
  'mlp': mlp.mlp,
  'mobilenet_v2': mobilenet_v2.mobilenet_v2,
  'mobilenet_v3_small': functools.partial(
    mobilenet_v3.mobilenet_v3, size='small'
  ),
  'mobilenet_v3_large': functools.partial(
    mobilenet_v3.mobilenet_v3, size='large'
  ),
  'preact_resnet18': functools.partial(
    resnet.resnet, depth=18, placement='before'
  ),
  'resnet18': functools.partial(resnet.resnet, depth=18),
  'resnet20': functools.partial(resnet.resnet, depth=20),
  'resnet32': functools.partial(resnet.resnet, depth=32),
  'resnet34': functools.partial(resnet.resnet, depth=34),
  'resnet44': functools.partial(resnet.resnet, depth=44),
  'resnet50': functools.partial(resnet.resnet, depth=50),
  'resnet56': functools.partial(resnet.resnet, depth=56),
  'resnet101': functools.partial(resnet.resnet, depth=101),
  'resnet152': functools.partial(resnet.resnet, depth=152),
  'resnext50': functools.partial(
    resnet.resnet, depth=50, groups=32, group_width=4
  ),
  'swin_tiny': swin.swin,
  'swin_v2_tiny': functools.partial(swin.swin, version=2),
  'vgg11': functools.partial(vgg.vgg, depth=11),
  'vgg11_bn': functools.partial(vgg.vgg, depth=11, norm='batch'),
  'vgg13': functools.partial(vgg.vgg, depth=13),
  'vgg13_bn': functools.partial(vgg.vgg, depth=13, norm='batch'),
  'vgg16': functools.partial(vgg.vgg, depth=16),
  'vgg16_bn': functools.partial(vgg.vgg, depth=16, norm='batch'),
  'vgg19': functools.partial(vgg.vgg, depth=19),
  'vgg19_bn': functools.partial(vgg.vgg, depth=19, norm='batch'),
  'vit_tiny': functools.partial(vit.vit, width=192, heads=3),
  'vit_small': functools.partial(vit.vit, width=384, heads=6),
  'vit_base': functools.partial(vit.vit, width=768, heads=12),
  'vit_large': functools.partial(vit.vit, width=1024, heads=16, depth=24),
  'wide_resnet50': functools.partial(resnet.resnet, depth=50, group_width=128),
  **DETECTORS,
}
