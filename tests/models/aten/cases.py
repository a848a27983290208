"""A function of torch for each row of OPERATORS, on images of `SHAPE`."""

import numpy as np
import torch

F = torch.nn.functional
SHAPE = (2, 3, 4, 6)  # of the images of a case


def constant(*shape):
  """Returns a tensor of numbers that differ."""
  size = int(np.prod(shape))
  numbers = np.random.default_rng(size).normal(size=shape)
  return torch.tensor(numbers, dtype=torch.float32)


def bits(x):
  return (x > 0.3) | (x < -1)


def integers(x):
  """Returns whole numbers that depend on nothing."""
  return torch.arange(x.numel()).view(x.shape) % 7


def written(x):
  y = x * x
  y[:, 0] = W[:1, :, :]
  y[:, 1] *= 2
  return y


W = constant(3, 4, 6)
ROWS = torch.tensor([[0, 2, 1], [1, 0, 2]])
TABLE = constant(5, 4)
TURN = [0, 2, 3, 1]
aten_ = torch.ops.aten

ELEMENTWISE = {
  'aten._to_copy.default': lambda x: (
    x.to(torch.float16).float() + bits(x).float()
  ).double(),
  'aten.abs.default': torch.abs,
  'aten.acos.default': lambda x: torch.acos(x.tanh()),
  'aten.add.Scalar': lambda x: aten_.add.Scalar(x, 2.0, 0.5),
  'aten.add.Tensor': lambda x: torch.add(x, W[:, :1, :1], alpha=3) + x * x,
  'aten.alias.default': lambda x: aten_.alias(x) * x,
  'aten.asin.default': lambda x: torch.asin(x.tanh()),
  'aten.atan.default': torch.atan,
  'aten.atan2.default': lambda x: torch.atan2(x, W),
  'aten.bitwise_and.Scalar': lambda x: integers(x) & 3,
  'aten.bitwise_and.Tensor': lambda x: bits(x) & (x > 0),
  'aten.bitwise_not.default': lambda x: ~bits(x),
  'aten.bitwise_or.Tensor': lambda x: bits(x) | (x < 0),
  'aten.bitwise_xor.Tensor': lambda x: bits(x) ^ (x > 0),
  'aten.ceil.default': torch.ceil,
  'aten.clamp.Tensor': lambda x: torch.clamp(x, W - 1, W + 1),
  'aten.clamp.default': lambda x: torch.clamp(x, -0.5, 0.7) + x.clamp(min=0.1),
  'aten.clone.default': lambda x: x.clone() * x,
  'aten.copy.default': written,
  'aten.cos.default': torch.cos,
  'aten.cosh.default': torch.cosh,
  'aten.div.Scalar': lambda x: aten_.div.Scalar(x, 3.0),
  'aten.div.Tensor': lambda x: W / (2 + x * x),
  'aten.div.Tensor_mode': lambda x: (
    torch.div(x, W, rounding_mode='trunc')
    + torch.div(x, W, rounding_mode='floor')
    + torch.div(integers(x), 3, rounding_mode='trunc')
  ),
  'aten.elu.default': lambda x: F.elu(x, 0.7) + F.selu(x) + F.celu(x, 1.3),
  'aten.eq.Scalar': lambda x: integers(x) == 3,
  'aten.eq.Tensor': lambda x: x == x.flip(3),
  'aten.erf.default': torch.erf,
  'aten.exp.default': torch.exp,
  'aten.expm1.default': torch.expm1,
  'aten.fill.Scalar': lambda x: aten_.fill.Scalar(x, 2.5),
  'aten.floor.default': torch.floor,
  'aten.fmod.Scalar': lambda x: torch.fmod(x, 0.7),
  'aten.fmod.Tensor': lambda x: torch.fmod(x, W),
  'aten.ge.Scalar': lambda x: integers(x) >= 3,
  'aten.ge.Tensor': lambda x: x >= W,
  'aten.gelu.default': lambda x: F.gelu(x) + F.gelu(x, approximate='tanh'),
  'aten.gt.Scalar': lambda x: integers(x) > 3,
  'aten.gt.Tensor': lambda x: x > W,
  'aten.hardsigmoid.default': F.hardsigmoid,
  'aten.hardswish.default': F.hardswish,
  'aten.hardtanh.default': lambda x: F.relu6(4 * x) + F.hardtanh(x, -0.5, 0.4),
  'aten.isinf.default': lambda x: torch.isinf(1 / (x - x[:1])),
  'aten.isnan.default': lambda x: torch.isnan(x.log()),
  'aten.le.Scalar': lambda x: integers(x) <= 3,
  'aten.le.Tensor': lambda x: x <= W,
  'aten.leaky_relu.default': lambda x: F.leaky_relu(x, 0.2),
  'aten.log.default': lambda x: torch.log(1 + x * x),
  'aten.log10.default': lambda x: torch.log10(1 + x * x),
  'aten.log1p.default': lambda x: torch.log1p(x * x),
  'aten.log2.default': lambda x: torch.log2(1 + x * x),
  'aten.log_sigmoid_forward.default': F.logsigmoid,
  'aten.logical_and.default': lambda x: torch.logical_and(bits(x), x > 0),
  'aten.logical_not.default': lambda x: torch.logical_not(bits(x)),
  'aten.logical_or.default': lambda x: torch.logical_or(bits(x), x > 0),
  'aten.logical_xor.default': lambda x: torch.logical_xor(bits(x), x > 0),
  'aten.lt.Scalar': lambda x: integers(x) < 3,
  'aten.lt.Tensor': lambda x: x < W,
  'aten.maximum.default': lambda x: torch.maximum(x, W),
  'aten.minimum.default': lambda x: torch.minimum(x, W),
  'aten.mul.Scalar': lambda x: aten_.mul.Scalar(x, 3.0),
  'aten.mul.Tensor': lambda x: x * W * x,
  'aten.ne.Scalar': lambda x: integers(x) != 3,
  'aten.ne.Tensor': lambda x: x != x.flip(3),
  'aten.neg.default': torch.neg,
  'aten.pow.Scalar': lambda x: 1.5**x,
  'aten.pow.Tensor_Scalar': lambda x: x**3 + (1 + x * x) ** 0.5 + x**2.0,
  'aten.pow.Tensor_Tensor': lambda x: (1 + x * x) ** W,
  'aten.reciprocal.default': lambda x: torch.reciprocal(2 + x * x),
  'aten.relu.default': lambda x: F.relu(x) + F.mish(x),
  'aten.remainder.Scalar': lambda x: torch.remainder(x, 0.7),
  'aten.remainder.Tensor': lambda x: torch.remainder(x, W),
  'aten.round.default': torch.round,
  'aten.rsqrt.default': lambda x: torch.rsqrt(1 + x * x),
  'aten.rsub.Scalar': lambda x: torch.rsub(x, 2.0, alpha=0.5),
  'aten.sigmoid.default': torch.sigmoid,
  'aten.sign.default': torch.sign,
  'aten.silu.default': F.silu,
  'aten.sin.default': torch.sin,
  'aten.sinh.default': torch.sinh,
  'aten.softplus.default': lambda x: F.softplus(9 * x, 2, 10),
  'aten.sqrt.default': lambda x: torch.sqrt(1 + x * x),
  'aten.sub.Scalar': lambda x: aten_.sub.Scalar(x, 2.0, 0.5),
  'aten.sub.Tensor': lambda x: torch.sub(x * x, W, alpha=2),
  'aten.tan.default': lambda x: torch.tan(x / 3),
  'aten.tanh.default': torch.tanh,
  'aten.trunc.default': torch.trunc,
  'aten.where.self': lambda x: torch.where(x > W, x * x, W[:1]),
  'giajax.stop_gradient.default': lambda x: x * x.detach(),
}
SHAPES = {
  'aten.arange.start_step': lambda x: x + torch.arange(1, 13, 2),
  'aten.cat.default': lambda x: torch.cat(
    [x, W[None, :, :1].expand(2, 3, 2, 6), torch.empty(0)], 2
  ),
  'aten.constant_pad_nd.default': lambda x: F.pad(
    x, (1, -2, 0, 1, 2, 0), value=0.5
  ),
  'aten.diagonal.default': lambda x: torch.diagonal(x, 1, 2, 3),
  'aten.embedding.default': lambda x: F.embedding(ROWS, TABLE) * x[:, :, :, 0],
  'aten.empty.memory_format': lambda x: torch.empty(2, 3, 4, 6).copy_(x) * x,
  'aten.empty_permuted.default': lambda x: aten_.empty_permuted(
    (2, 3), (1, 0)
  ).copy_(x[:, :, 0, 0]),
  'aten.expand.default': lambda x: x[:, :1].expand(5, 2, -1, 4, 6) * x[0],
  'aten.flip.default': lambda x: x.flip(1, 3) * x,
  'aten.full.default': lambda x: x * torch.full((4, 6), 2.0) + torch.zeros(6),
  'aten.full_like.default': lambda x: (
    x * torch.full_like(x, 3) + torch.ones_like(x)
  ),
  'aten.gather.default': lambda x: torch.gather(
    x, 3, ROWS[:, None, :, None].expand(2, 3, 3, 4).contiguous()
  ),
  'aten.index.Tensor': lambda x: x[:, ROWS, :2] * x[:, :2, None, :2],
  'aten.index_put.default': lambda x: (
    torch.index_put(x, (ROWS[:, 0],), x[:1] * 2)
    + torch.index_put(x * x, (ROWS[:, 0],), x, accumulate=True)
  ),
  'aten.index_select.default': lambda x: torch.index_select(x, 3, ROWS[0]),
  'aten.permute.default': lambda x: x.permute(TURN) * W.permute(1, 2, 0),
  'aten.reflection_pad1d.default': lambda x: F.pad(
    x[:, :, 0], (2, 1), 'reflect'
  ),
  'aten.reflection_pad2d.default': lambda x: F.pad(x, (2, 1, 0, 3), 'reflect'),
  'aten.repeat.default': lambda x: x.repeat(2, 1, 1, 2, 1) * W[:1, :1],
  'aten.replication_pad1d.default': lambda x: F.pad(
    x[:, :, 0], (2, 1), 'replicate'
  ),
  'aten.replication_pad2d.default': lambda x: F.pad(
    x, (2, 1, 0, 3), 'replicate'
  ),
  'aten.roll.default': lambda x: (
    torch.roll(x, (1, -2), (2, 3)) * torch.roll(x, 5)
  ),
  'aten.scalar_tensor.default': lambda x: x * aten_.scalar_tensor(2.5),
  'aten.select.int': lambda x: x.select(1, -1) * x[:, 0],
  'aten.select_scatter.default': lambda x: torch.select_scatter(
    x, x[:, 0] * 2, 1, 2
  ),
  'aten.slice.Tensor': lambda x: x[:, 1:, ::2, -5:-1] * 2,
  'aten.slice_scatter.default': lambda x: torch.slice_scatter(
    x, x[:, :, :2] * 2, 2, 0, 4, 2
  ),
  'aten.split.Tensor': lambda x: torch.cat(x.split(4, 3)[::-1], 3) * x,
  'aten.split_with_sizes.default': lambda x: (
    torch.cat(x.split([1, 2], 1)[::-1], 1) * x
  ),
  'aten.squeeze.default': lambda x: x[:, :1, :, :1].squeeze(),
  'aten.squeeze.dim': lambda x: (
    aten_.squeeze.dim(x[:, :, :1], 2) + aten_.squeeze.dim(x[:, :, 0], 1)
  ),
  'aten.squeeze.dims': lambda x: x[:, :1, :, :1].squeeze((1, 3)),
  'aten.stack.default': lambda x: torch.stack([x[:, 0], x[:, 1]], -1) * 2,
  'aten.unbind.int': lambda x: x.unbind(2)[1] * x.unbind(-3)[2][:, :1],
  'aten.unsqueeze.default': lambda x: (
    x.unsqueeze(2).unsqueeze(-1) * x[:, :, None, :, :, None]
  ),
  'aten.view.default': lambda x: (
    x.reshape(2, 3, 2, 2, 3, 2).transpose(3, 4).flatten(1, 2) * 2
    + x.view(2, -1)[0, 0]
    + x.permute(TURN).reshape(2, 24, 3)[0, 0, 0]
  ),
}
REDUCTIONS = {
  'aten._log_softmax.default': lambda x: F.log_softmax(x, 1),
  'aten._softmax.default': lambda x: F.softmax(x, 3) * F.softmax(x, 1),
  'aten.all.default': lambda x: (x > -9).all(),
  'aten.all.dim': lambda x: aten_.all.dim(x > -1, 3),
  'aten.amax.default': lambda x: x.amax((2, 3), keepdim=True) * x.amax(0),
  'aten.amin.default': lambda x: x.amin((-1,)),
  'aten.any.default': lambda x: (x > 1).any(),
  'aten.any.dim': lambda x: aten_.any.dim(x > 1, 3, True),
  'aten.argmax.default': lambda x: x.argmax(1) + x.argmax(),
  'aten.argmin.default': lambda x: x.argmin(2, keepdim=True),
  'aten.cumsum.default': lambda x: x.cumsum(1) * x + integers(x).cumsum(2),
  'aten.linalg_vector_norm.default': lambda x: (
    torch.linalg.vector_norm(x, dim=1)
    + torch.linalg.vector_norm(x, 3, (1, 3), True)[:, 0]
    + torch.linalg.vector_norm(x, float('inf'), 1)
    + torch.linalg.vector_norm(x, 0)
    + F.normalize(x, dim=1)[:, 0]
  ),
  'aten.max.default': lambda x: x.max(),
  'aten.max.dim': lambda x: x.max(1)[0] + x.max(1)[1],
  'aten.mean.default': lambda x: x.mean() ** 2,
  'aten.mean.dim': lambda x: x.mean((2, 3)) ** 2 + x.mean(1, True)[:, 0, 0, :3],
  'aten.min.default': lambda x: x.min(),
  'aten.min.dim': lambda x: x.min(3, True)[0],
  'aten.prod.default': lambda x: x[:, 0, 0].prod(),
  'aten.prod.dim_int': lambda x: x.prod(1),
  'aten.sort.default': lambda x: (
    x.sort(3, descending=True)[0] * W + x.sort(1)[0]
  ),
  'aten.sum.default': lambda x: x.sum() ** 2 + (x > 0).sum(),
  'aten.sum.dim_IntList': lambda x: x.sum((1, 3), keepdim=True) * x + x.sum(0),
  'aten.topk.default': lambda x: x.topk(2, 3)[0] + x.topk(2, -1, False)[0],
  'aten.var.correction': lambda x: (
    x.var((2, 3)) + x.std((2, 3), correction=0) + x.var()
  ),
  'aten.var_mean.correction': lambda x: torch.cat(
    [v * v for v in torch.var_mean(x, 1, keepdim=True)]
  ),
}
LAYERS = {
  'aten._native_batch_norm_legit.no_stats': lambda x: F.batch_norm(
    x, None, None, W[:, 0, 0], W[:, 1, 1], True
  ),
  'aten._native_batch_norm_legit_functional.default': lambda x: (
    aten_._native_batch_norm_legit_functional(
      x, W[:, 0, 0], None, W[:, 1, 1], W[:, 0, 1] ** 2, True, 0.2, 1e-3
    )[0]
  ),
  'aten._native_batch_norm_legit_no_training.default': lambda x: F.batch_norm(
    x, W[:, 0, 0], W[:, 0, 1] ** 2, None, W[:, 1, 1]
  ),
  'aten._upsample_nearest_exact1d.vec': lambda x: F.interpolate(
    x[:, :, 0], 9, mode='nearest-exact'
  ),
  'aten._upsample_nearest_exact2d.vec': lambda x: F.interpolate(
    x, (7, 4), mode='nearest-exact'
  ),
  'aten.adaptive_avg_pool1d.default': lambda x: F.adaptive_avg_pool1d(
    x[:, :, 0], 4
  ),
  'aten.adaptive_avg_pool2d.default': lambda x: (
    F.adaptive_avg_pool2d(x, (3, 4))[:, :, :1, :1] * F.adaptive_avg_pool2d(x, 1)
    + F.adaptive_avg_pool2d(x, (2, 3))
  ),
  'aten.adaptive_avg_pool3d.default': lambda x: F.adaptive_avg_pool3d(
    x[:, None], (2, 4, 5)
  ),
  'aten.adaptive_max_pool2d.default': lambda x: F.adaptive_max_pool2d(
    x, (3, 4)
  ),
  'aten.addmm.default': lambda x: torch.addmm(
    W[0, 0, :4], x[:, 0, 0], W[1].mT, beta=2, alpha=0.5
  ),
  'aten.avg_pool1d.default': lambda x: F.avg_pool1d(x[:, :, 0], 3, 2, 1),
  'aten.avg_pool2d.default': lambda x: (
    F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
    + F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False)
    + F.avg_pool2d(x, 2, divisor_override=3)[:, :, :1, :1]
  ),
  'aten.avg_pool3d.default': lambda x: F.avg_pool3d(x[:, None], 2, 1),
  'aten.baddbmm.default': lambda x: torch.baddbmm(
    W[:2, :, :4], x[:, 0], x[:, 1].mT, beta=2, alpha=3
  ),
  'aten.bmm.default': lambda x: torch.bmm(x[:, 0], x[:, 1].mT),
  'aten.convolution.default': lambda x: torch.cat(
    [
      part.flatten()
      for part in (
        F.conv2d(x, constant(6, 3, 3, 2), W[0, 0], (2, 1), (1, 2), (1, 2)),
        F.conv2d(x, constant(6, 1, 3, 3), None, 1, 'same', groups=3),
        F.conv1d(x[:, :, 0], constant(4, 3, 3), W[0, 0, :4], 2, 1),
        F.conv3d(x[:, None], constant(2, 1, 2, 2, 2), W[0, 0, :2]),
        F.conv_transpose2d(
          x, constant(3, 2, 3, 2), W[0, 0, :2], 2, 1, (1, 0), 1, (1, 2)
        ),
        F.conv_transpose2d(x, constant(3, 2, 3, 3), None, 2, 0, 0, 3),
        F.conv_transpose1d(x[:, :, 0], constant(3, 2, 3), None, 2),
      )
    ]
  ),
  'aten.einsum.default': lambda x: torch.einsum('bchw, cwd -> bhd', x, W.mT),
  'aten.linear.default': lambda x: F.linear(x, W[0], W[0, :, 0]),
  'aten.matmul.default': lambda x: torch.cat(
    [
      part.flatten()
      for part in (
        x.permute(TURN) @ x.permute(0, 2, 1, 3),
        x.permute(TURN) @ W[:, :, 0],
        W @ x.mT,
        x[:, 0, 0] @ W[0, 0],
      )
    ]
  ),
  'aten.max_pool2d_with_indices.default': lambda x: (
    F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    + F.max_pool2d(x, (2, 1), (1, 2), (1, 0), (2, 1))[:, :, :3, :4].mean()
  ),
  'aten.max_pool3d_with_indices.default': lambda x: F.max_pool3d(
    x[:, None], 2, 1
  ),
  'aten.mm.default': lambda x: torch.mm(x[:, 0, 0], W[0].mT),
  'aten.native_group_norm.default': lambda x: F.group_norm(
    torch.cat([x, x * x], 1), 2, constant(6), constant(6)
  ),
  'aten.native_layer_norm.default': lambda x: (
    F.layer_norm(x, (4, 6), W[0], W[1])
    + F.layer_norm(x.permute(TURN), (3,)).permute(0, 3, 1, 2)
  ),
  'aten.rms_norm.default': lambda x: (
    F.rms_norm(x, (6,), W[0, 0]) + F.rms_norm(x, (4, 6), eps=0.1)
  ),
  'aten.scaled_dot_product_attention.default': lambda x: (
    F.scaled_dot_product_attention(x, W, x.flip(3), W[0] @ W[1].mT)
    + F.scaled_dot_product_attention(
      x.permute(0, 1, 2, 3), x, x, is_causal=True, scale=0.7
    )
    + F.scaled_dot_product_attention(x, x[:, :1], x[:, 1:2], enable_gqa=True)
    + F.scaled_dot_product_attention(x, x, x, (W[0] @ W[1].mT > -2))
  ),
  'aten.upsample_bilinear2d.vec': lambda x: (
    F.interpolate(x, (7, 4), mode='bilinear')
    + F.interpolate(x, (7, 4), mode='bilinear', align_corners=True)
  ),
  'aten.upsample_linear1d.vec': lambda x: F.interpolate(
    x[:, :, 0], scale_factor=1.5, mode='linear'
  ),
  'aten.upsample_nearest1d.vec': lambda x: F.interpolate(x[:, :, 0], 9),
  'aten.upsample_nearest2d.vec': lambda x: (
    F.interpolate(x, scale_factor=2)[:, :, :7, :4] + F.interpolate(x, (7, 4))
  ),
}
# Of these, torch has no second derivative.
ONCE = {
  'aten.hardsigmoid.default',
}
GROUPS = {
  'elementwise': ELEMENTWISE,
  'layers': LAYERS,
  'reductions': REDUCTIONS,
  'shapes': SHAPES,
}
RANDOM = {
  'aten.bernoulli.default': (lambda x: torch.bernoulli(x * 0 + 0.3), 0.3, 0.21),
  'aten.bernoulli.p': (
    lambda x: torch.empty_like(x).bernoulli_(0.3),
    0.3,
    0.21,
  ),
  'aten.exponential.default': (
    lambda x: torch.empty_like(x).exponential_(2.0),
    0.5,
    0.25,
  ),
  'aten.native_dropout.default': (
    lambda x: F.dropout(x * 0 + 1, 0.2),
    1.0,
    0.25,
  ),
  'aten.rand.default': (lambda x: torch.rand(x.shape), 0.5, 1 / 12),
  'aten.rand_like.default': (torch.rand_like, 0.5, 1 / 12),
  'aten.randn.default': (lambda x: torch.randn(x.shape), 0.0, 1.0),
  'aten.randn_like.default': (torch.randn_like, 0.0, 1.0),
}
