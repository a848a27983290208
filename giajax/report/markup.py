"""HTML by construction: whatever is not `Html` is escaped."""

import base64
from collections.abc import Sequence
import html
import io
import itertools

import numpy as np
from PIL import Image

from giajax import images

_VOID = ('br', 'img', 'meta')


class Html(str):
  """Text that is HTML already. Every other string is escaped."""


def tag(name: str, /, *children: str | None, **attributes: object) -> Html:
  """Returns an element.

  Args:
    name: the name of the element.
    *children: its content; plain strings are escaped, None is skipped.
    **attributes: its attributes, escaped too. A trailing underscore is dropped
      (`class_`), other underscores become hyphens, and None is skipped.
  """
  opening = name + ''.join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
    if value is not None
  )
  if name in _VOID:
    return Html(f'<{opening}>')
  return Html(f'<{opening}>{join(*children)}</{name}>')


def join(*children: str | None) -> Html:
  """Returns the children one after the other, escaped where needed."""
  return Html(
    ''.join(
      child if isinstance(child, Html) else html.escape(child)
      for child in children
      if child is not None
    )
  )


def table(
  titles: Sequence[str],
  lines: Sequence[Sequence[str]],
  kinds: Sequence[str | None] = (),
) -> Html:
  """Returns a table that scrolls sideways where it does not fit.

  Args:
    titles: those of the columns.
    lines: the cells of each line.
    kinds: how each line looks, as the style sheet names it, if not all of them
      look alike.
  """
  head = tag('thead', tag('tr', *(tag('th', title) for title in titles)))
  body = [
    tag('tr', *(tag('td', cell) for cell in cells), class_=kind)
    for cells, kind in itertools.zip_longest(lines, kinds)
  ]
  table = tag('table', head, tag('tbody', *body))
  return tag('div', table, class_='scroll')


def data_uri(content: bytes, kind: str) -> str:
  """Returns bytes as a self-contained URI."""
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def pixels(image: np.ndarray) -> np.ndarray:
  """Returns [H, W, C] in [0, 1] as uint8 [H, W, 3]; NaN becomes black.

  The first three of several channels are shown, and the mean of two.
  """
  if image.shape[-1] < 3:
    image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
  return images.to_uint8(image[..., :3])


def picture(image: np.ndarray, alt: str) -> Html:
  """Returns [H, W, C] in [0, 1] as an element; small images stay pixelated."""
  stream = io.BytesIO()
  Image.fromarray(pixels(image)).save(stream, 'PNG', optimize=True)
  small = 'small' if max(image.shape[:2]) < 112 else None
  source = data_uri(stream.getvalue(), 'image/png')
  return tag('img', src=source, alt=alt, class_=small)


def boxed(image: Html, boxes: np.ndarray) -> Html:
  """Returns a picture with the outlines of boxes over it.

  Args:
    image: what `picture` returned.
    boxes: [n, 4] (left, top, right, bottom) in [0, 1], relative to the image.
  """
  outlines = [
    tag(
      'rect',
      x=f'{left:.4f}',
      y=f'{top:.4f}',
      width=f'{right - left:.4f}',
      height=f'{bottom - top:.4f}',
    )
    for left, top, right, bottom in boxes.tolist()
  ]
  over = tag('svg', *outlines, viewBox='0 0 1 1', preserveAspectRatio='none')
  return tag('div', image, over, class_='boxed')


def plot(svg: bytes, alt: str) -> Html:
  """Returns a figure that follows the reader's light or dark theme."""
  return tag('img', src=data_uri(svg, 'image/svg+xml'), alt=alt, class_='plot')
