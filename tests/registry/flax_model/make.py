"""Makes model.onnx and expected.npz with jax 0.12, flax 0.12 and jax2onnx 0.17. A part of this project, Apache-2.0."""

import jax
import jax.numpy as jnp
import jax2onnx
import numpy as np
import onnx
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(16, 5, rngs=rngs)

    def features(self, images):
        return jax.nn.silu(self.second(jax.nn.relu(self.first(images))))

    def head(self, features):
        return self.dense(features.mean((1, 2)))

    def __call__(self, images):
        return self.head(self.features(images))


net = Net(nnx.Rngs(0))
onnx.save(jax2onnx.to_onnx(net, [("batch", 32, 48, 3)]), "model.onnx")

images = np.random.default_rng(0).normal(size=(3, 32, 48, 3)).astype(np.float32)
A = net.features(images)
maps = []
for target in range(5):
    gradient = jax.grad(lambda A, target=target: net.head(A)[:, target].sum())(A)
    maps.append(jax.nn.relu((gradient.mean((1, 2), keepdims=True) * A).sum(-1)))
np.savez_compressed("expected.npz", images=images, logits=net(images), gradcam=jnp.stack(maps, 1))
