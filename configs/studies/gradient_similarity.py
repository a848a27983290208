"""How similar gradients are, against what comes back: repeated labels.

  giajax --config=studies/gradient_similarity --workdir=/tmp/similarity
  giajax --config=studies/gradient_similarity:runlocal --workdir=/tmp/similarity

After Guo et al., TPAMI 2025, arXiv 2503.11514: the table of the cosines between
the gradient of one image and the gradient of its batch of four CIFAR-10 images,
of which one to four share a label, and Inverting Gradients on the same batches:
by their Proposition 1, images whose gradients are similar are hard to tell
apart. ResNet-18 with fresh weights in inference mode. The study needs
`--config.dataset.data_dir=DIR`.

`:runlocal` has half the width, two batches and 600 steps.
"""

from giajax.engine import build

# Images of one label: cosine, PSNR, SSIM. The paper's attacks count 0 for 1.
_PAPER = {
  1: (-0.03, 22.03, 0.741),
  2: (0.744, 19.95, 0.626),
  3: (0.903, 18.36, 0.559),
  4: (0.954, 14.03, 0.414),
}


def get_config(arg=None):
  """Returns the experiment; `runlocal` takes minutes on two cores."""
  config = build.default_config()
  config.dataset = dict(
    name='tfds', dataset='cifar10', split='test', data_dir=''
  )
  config.cases.update(count=16, batch_size=4, rule='repeated_label')
  config.model = dict(name='resnet18')
  config.attack = dict(name='inverting_gradients', num_steps=24_000)
  config.attack.total_variation = 1e-2
  config.gradient_similarity = True
  config.noise_controls = 0
  config.sweep = {'cases.repeats': tuple(_PAPER)}
  config.study = dict(
    claim='The more images of a batch share a label, the more alike are their '
    'gradients, and the less comes back.',
    source='Guo et al., TPAMI 2025, arXiv 2503.11514, the tables of gradient '
    'similarity and of repeated labels',
    metrics=('gradient_similarity_first', 'psnr', 'ssim'),
    paper=[
      dict(
        at={'cases.repeats': repeats},
        gradient_similarity_first=cosine,
        psnr=psnr,
        ssim=ssim,
      )
      for repeats, (cosine, psnr, ssim) in _PAPER.items()
    ],
    correlations=[
      dict(x='gradient_similarity', y='psnr', paper='negative'),
      dict(x='gradient_similarity', y='ssim', paper='negative'),
    ],
  )
  if arg == 'runlocal':
    config.cases.count = 2
    config.model = dict(name='resnet18', width=0.5)
    config.attack.num_steps = 600
  return config
