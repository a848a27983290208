"""Generators of images, from latents in stages, and inversion networks.

A row is a factory `(image_shape, ...) -> Generator`, of untrained weights;
`base.load` reads trained ones.
"""

from giajax.generative import autoencoder_decoder
from giajax.generative import ci_net
from giajax.generative import dcgan
from giajax.generative import fgla
from giajax.generative import grnn
from giajax.generative import lti

GENERATORS = {
  'autoencoder_decoder': autoencoder_decoder.autoencoder_decoder,
  'ci_net': ci_net.ci_net,
  'conditional_dcgan': dcgan.conditional_dcgan,
  'dcgan': dcgan.dcgan,
  'fgla': fgla.fgla,
  'grnn': grnn.grnn,
  'lti': lti.lti,
}
