"""GIAS and GIFD: what a generator's weights and features add to its latents.

  giajax --config=studies/beyond_latents --workdir=/tmp/gias       (weights)
  giajax --config=studies/beyond_latents:PART --workdir=/tmp/gifd
  giajax --config=studies/beyond_latents:PART,runlocal --workdir=/tmp/gifd

Gradients of single images at 64 pixels, a ResNet-18 with fresh weights in
inference mode, labels known, and PyTorch's DCGAN of faces. PART is one of

  weights   the latents for all steps, then for a ninth of them, with the
            weights of the generator for the others (GIAS)
  features  the latents, and features behind one, two, three or all of the
            layers (GIFD)

It needs a folder of images with a folder for each of two classes or more,
`--config.dataset.path=DIR`, and the state dict of the generator,
`--config.attack.generator.path=FILE`. Run it on faces, and on images of other
things, which the latents cannot reach. The authors show pictures without
figures of this setting: Jeon et al., NeurIPS 2021, arXiv 2110.14962, and Fang
et al., ICCV 2023, arXiv 2308.04699.

`runlocal` has a quarter of the width, two images and a tenth of the steps.
"""

from giajax.engine import build

_METRICS = tuple(
  name
  for metric in ('psnr', 'ssim')
  for name in (metric, f'noise_gradient_{metric}', f'class_sample_{metric}')
)


def get_config(arg=None):
  """Returns a part; with `runlocal` it takes minutes on two cores."""
  words = (arg or 'weights').split(',')
  local = 'runlocal' in words
  part = next((word for word in words if word != 'runlocal'), 'weights')
  if part not in _PARTS:
    raise ValueError(
      f'Expected a part among {", ".join(_PARTS)}; got {part!r}; name one'
    )
  config = build.default_config()
  config.dataset = dict(name='folder', path='', size=64)
  config.cases.count = config.noise_controls = 2 if local else 16
  config.model = dict(name='resnet18', width=0.25 if local else 1.0)
  generator = dict(name='dcgan', path='', prefix='netG_state_dict')
  config.threat = dict(level='D', grants=('labels',))
  _PARTS[part](config, generator, 10 if local else 1)
  return config


def _weights(config, generator, less):
  steps = 9_000 // less
  config.attack = dict(name='gias', generator=generator, num_steps=steps)
  config.sweep = {'attack.latent_steps': (steps, steps // 9)}
  config.study = dict(
    claim='The weights of the generator find details that its latents cannot '
    'express.',
    source='Jeon et al., NeurIPS 2021, arXiv 2110.14962, without such a table',
    metrics=_METRICS,
  )


def _features(config, generator, less):
  config.attack = dict(
    name='gifd', generator=generator, num_steps=5_000 // less
  )
  config.sweep = {'attack.layers': (1, 2, 3, 4)}
  config.study = dict(
    claim='Features find what latents cannot, also in images unlike those that '
    'the generator learned.',
    source='Fang et al., ICCV 2023, arXiv 2308.04699, without such a table',
    metrics=_METRICS,
  )


_PARTS = {'weights': _weights, 'features': _features}
