"""Generators of images, from latents in stages.

A row is a factory `(image_shape, ...) -> Generator`, of untrained weights;
`base.load` reads trained ones.
"""

from giajax.generative import autoencoder_decoder
from giajax.generative import ci_net
from giajax.generative import dcgan
from giajax.generative import grnn

GENERATORS = {
  'autoencoder_decoder': autoencoder_decoder.autoencoder_decoder,
  'ci_net': ci_net.ci_net,
  'conditional_dcgan': dcgan.conditional_dcgan,
  'dcgan': dcgan.dcgan,
  'grnn': grnn.grnn,
}
