"""Writes golden/metrics/cw_ssim.npz, for metrics/cw_ssim_test.py.

  cd tests && python -m golden.make_cw_ssim

needs torch and pytorch_wavelets 1.3 (F. Cotter), which transforms; the formula
is written down here in float64. Nothing of giajax is imported.
"""

import pathlib

import numpy as np
import pytorch_wavelets
import torch

PATH = pathlib.Path(__file__).resolve().parent / 'metrics' / 'cw_ssim.npz'
# Even, odd, not square, and too small for five scales.
SHAPES = ((32, 32, 3), (30, 21, 3), (64, 48, 1), (5, 3, 1))


def reference(a, b):
  """Returns CW-SSIM of two images [H, W, C] in float64."""
  forward = pytorch_wavelets.DTCWTForward(
    J=5, biort='near_sym_b', qshift='qshift_b'
  ).double()
  images = torch.from_numpy(np.stack([a, b]).astype(np.float64))
  _, scales = forward(images.permute(0, 3, 1, 2))
  values = []
  for scale in scales:  # [2, C, 6, h, w, 2]
    x, y = torch.view_as_complex(scale.contiguous()).numpy()
    product = abs((x * y.conj()).sum(1))
    power = (abs(x) ** 2 + abs(y) ** 2).sum(1)
    values.append(np.mean((2 * product + 1e-6) / (power + 1e-6)))
  return np.mean(values)


def pair(shape, rng):
  """Returns two images of blurred noise, one a noisier version of the other."""
  noise = np.fft.fft2(rng.standard_normal(shape), axes=(0, 1))
  rows, columns = (np.fft.fftfreq(n)[:, None] for n in shape[:2])
  decay = 1 / (0.05 + np.hypot(rows, columns.T))
  image = np.fft.ifft2(noise * decay[..., None], axes=(0, 1)).real
  image = (image - image.min()) / (image.max() - image.min())
  noisy = np.clip(image + 0.1 * rng.standard_normal(shape), 0, 1)
  return [np.round(255 * x).astype(np.uint8) for x in (image, noisy)]


def main():
  rng = np.random.default_rng(0)
  arrays = {}
  for shape in SHAPES:
    a, b = pair(shape, rng)
    name = 'x'.join(map(str, shape))
    arrays |= {f'{name}/a': a, f'{name}/b': b}
    arrays[f'{name}/value'] = reference(a / 255, b / 255)
    print(name, arrays[f'{name}/value'])
  PATH.parent.mkdir(exist_ok=True)
  np.savez_compressed(PATH, **arrays)


if __name__ == '__main__':
  main()
