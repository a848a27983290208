"""Tests of how items and restarts lie on devices."""

import pytest

from giajax.engine import mesh


class _Device:
  """Stands for one; a Mesh takes anything."""


@pytest.mark.parametrize('devices', [1, 2, 6, 8])
@pytest.mark.parametrize(
  'items, restarts, batch', [(1, 1, 1), (5, 3, 2), (7, 9, 4)]
)
def test_padding_is_whole_and_least(
  devices, items, restarts, batch, monkeypatch
):
  monkeypatch.setattr(mesh.jax.sharding, 'Mesh', lambda grid, names: grid.shape)
  where = mesh.layout(
    items, restarts, batch, [_Device() for _ in range(devices)]
  )
  across, down = where.mesh
  assert across * down <= devices
  assert where.items >= items
  assert where.items % across == 0
  assert where.restarts >= restarts
  assert where.restarts % (down * where.restarts_per_batch) == 0
  assert where.restarts_per_batch <= batch
  # No other arrangement has fewer restarts to run on a device.
  most = where.items * where.restarts / (across * down)
  for used in range(1, devices + 1):
    for d in (d for d in range(1, used + 1) if used % d == 0):
      rows, columns = -(-items // d), -(-restarts // (used // d))
      assert most <= rows * -(-columns // batch) * batch


@pytest.mark.parametrize('items, devices', [(1, 8), (5, 2), (6, 4)])
def test_restarts_that_work_together_share_a_device(
  items, devices, monkeypatch
):
  monkeypatch.setattr(mesh.jax.sharding, 'Mesh', lambda grid, names: grid.shape)
  where = mesh.layout(
    items, 9, 4, [_Device() for _ in range(devices)], together=True
  )
  assert where.mesh == (min(items, devices) if items < 6 else 3, 1)
  assert where.restarts == where.restarts_per_batch == 9


def test_devices_that_would_only_repeat_work_stay_idle(monkeypatch):
  monkeypatch.setattr(mesh.jax.sharding, 'Mesh', lambda grid, names: grid.shape)
  where = mesh.layout(1, 1, 4, [_Device() for _ in range(8)])
  assert where.mesh == (1, 1)
  assert (where.items, where.restarts) == (1, 1)
