"""The published MAIL in Keras, written from the paper's description, as the peer of speed measurements.

It needs an environment of its own: ``python -m venv KERAS && KERAS/bin/pip install tensorflow-cpu``, since TensorFlow
is no dependency of mailnet. ``build`` gives the layers the names of ``mail_reference``'s modules, so that
``copy_weights`` can give both the same weights and ``compare.py`` can refuse networks whose answers differ.

Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

GROUPS = 16
WIDTHS = (64, 128, 256, 512)
SPACE = (1, 2)


def batch_norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def conv(x: Any, channels: int, name: str, kernel: int = 1, stride: int = 1, groups: int = 1) -> Any:
    return layers.Conv2D(channels, kernel, strides=stride, padding="same", groups=groups, name=name)(x)


def depthwise(x: Any, kernel: int, name: str, stride: int) -> Any:
    return layers.DepthwiseConv2D(kernel, strides=stride, padding="same", name=name)(x)


class Shuffle(layers.Layer):
    """Interleaves groups of channels."""

    def call(self, x: Any) -> Any:
        _, height, width, channels = x.shape
        split = tf.reshape(x, (-1, height, width, GROUPS, channels // GROUPS))
        return tf.reshape(tf.transpose(split, (0, 1, 2, 4, 3)), (-1, height, width, channels))


class Statistics(layers.Layer):
    """What channel attention reads, all five pools of it."""

    def call(self, x: Any) -> Any:
        low, mean, high, total = (
            pool(x, SPACE) for pool in (tf.reduce_min, tf.reduce_mean, tf.reduce_max, tf.reduce_sum)
        )
        return (low + mean + high + total) + (high - mean - low)


class Gate(layers.Layer):
    """The sigmoid of scaled logits."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, z: Any) -> Any:
        return tf.sigmoid(self.scale * z)[:, None, None]


def emila(x: Any, channels: int, stride: int, name: str) -> Any:
    branches = [
        conv(x, channels, f"{name}.gpc", stride=stride, groups=GROUPS),
        depthwise(x, 3, f"{name}.dwc3", stride),
        depthwise(x, 5, f"{name}.dwc5", stride),
    ]
    mixed = Shuffle()(layers.Concatenate()(branches))
    o = batch_norm(conv(mixed, channels, f"{name}.fuse", groups=2), f"{name}.fuse_bn")
    hidden = layers.Dense(channels // 4, activation="relu", name=f"{name}.ca_fc1")(Statistics()(o))
    gate = Gate(name=f"{name}.ca_scale")(layers.Dense(channels, name=f"{name}.ca_fc2")(hidden))
    shortcut = batch_norm(conv(x, channels, f"{name}.proj", stride=stride), f"{name}.proj_bn")
    return layers.Activation("relu")(layers.Add()([layers.Multiply()([o, gate]), shortcut]))


def erla(x: Any, channels: int, stride: int, name: str) -> Any:
    y = layers.Activation("relu")(batch_norm(emila(x, channels, stride, f"{name}.emila0"), f"{name}.bn_mid"))
    y = batch_norm(conv(emila(y, channels, 1, f"{name}.emila1"), channels, f"{name}.pw"), f"{name}.bn_out")
    shortcut = x
    if stride > 1 or x.shape[-1] != channels:
        shortcut = batch_norm(conv(x, channels, f"{name}.short", stride=stride), f"{name}.bn_short")
    return layers.Activation("relu")(layers.Add()([y, shortcut]))


class EMCAM(layers.Layer):
    """MFIFA and EMSCA, whose map scales both modalities."""

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(**options)
        self.channels = channels
        k, n = np.arange(channels)[:, None], np.arange(channels)[None]
        matrix = math.sqrt(2 / channels) * np.cos(math.pi * (2 * n + 1) * k / (2 * channels))
        matrix[0] /= math.sqrt(2)
        self.dct = matrix.T.astype(np.float32)
        plain: dict[str, Any] = {"padding": "same", "use_bias": False}
        self.freq_fc = layers.Dense(channels, activation="sigmoid")
        self.gpc = layers.Conv2D(channels, 1, groups=GROUPS, **plain)
        self.dwc3 = layers.DepthwiseConv2D(3, **plain)
        self.dwc5 = layers.DepthwiseConv2D(5, **plain)
        self.fuse = layers.Conv2D(channels, 1, **plain)

    def build(self, shape: Any) -> None:
        def ones(name: str, *size: int) -> Any:
            return self.add_weight(shape=size, initializer="ones", name=name)

        self.high, self.low, self.mean, self.share = (ones(name) for name in ("high", "low", "mean", "share"))
        self.local = [ones(f"local{m}", self.channels) for m in range(2)]
        self.alpha = [ones(f"alpha{m}", self.channels) for m in range(2)]
        map_shape = (None, 8, 8, self.channels)
        self.freq_fc.build((None, self.channels))
        for layer in (self.gpc, self.dwc3, self.dwc5):
            layer.build(map_shape)
        self.fuse.build((None, 8, 8, 3 * self.channels))

    def mfifa(self, x: Any) -> Any:
        d = tf.tensordot(x, self.dct, 1)
        h1, l1, l2 = (
            self.freq_fc(pool(d, SPACE))[:, None, None] for pool in (tf.reduce_max, tf.reduce_mean, tf.reduce_min)
        )
        high, low = h1 + (h1 - l1) + (d - l2), l1 + l2
        return self.high * high + self.low * low + self.mean * (high - low)

    def pooled(self, x: Any) -> Any:
        q = self.fuse(tf.concat([self.gpc(x), self.dwc3(x), self.dwc5(x)], -1))
        return tf.reduce_mean(q, SPACE, keepdims=True) + tf.reduce_max(q, SPACE, keepdims=True)

    def call(self, xs: Any) -> Any:
        frequency = tf.sigmoid(self.mfifa(xs[0]) + self.mfifa(xs[1]))
        means = [self.pooled(x) for x in xs]
        for m in range(2):
            means[m] = means[m] + self.pooled(means[m]) + means[m - 1]
        pooled = tf.sigmoid(self.local[0] * means[0] + self.local[1] * means[1])
        attention = tf.sigmoid(self.share * frequency + self.local[0] * pooled)
        return [x * attention * alpha for x, alpha in zip(xs, self.alpha, strict=True)]


def build(size: int, classes: tuple[int, ...], dropout: float = 0.25) -> keras.Model:
    """Return the network of two images (size, size, 3), with a softmax for each task."""
    images = [layers.Input((size, size, 3)) for _ in range(2)]
    xs = []
    for m, x in enumerate(images):
        stem = batch_norm(conv(x, WIDTHS[0], f"trunks.{m}.stem", 7, 2), f"trunks.{m}.stem_bn")
        xs.append(layers.MaxPooling2D(3, 2, padding="same")(layers.Activation("relu")(stem)))
    for stage, width in enumerate(WIDTHS):
        for m in range(2):
            x = erla(xs[m], width, 1 if stage == 0 else 2, f"trunks.{m}.erlas.{2 * stage}")
            x = layers.Dropout(dropout)(x) if stage else x
            xs[m] = erla(x, width, 1, f"trunks.{m}.erlas.{2 * stage + 1}")
        xs = EMCAM(width, name=f"emcams.{stage}")(xs)
    pooled = layers.GlobalAveragePooling2D()(layers.Concatenate()(xs))
    heads = [layers.Dense(k, activation="softmax", name=f"heads.{t}")(pooled) for t, k in enumerate(classes)]
    return keras.Model(images, heads)


def copy_weights(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Give the network the weights of ``mail_reference``, by the names of its state dict.

    Raises:
        KeyError: A layer has no counterpart.
    """

    def convolution(name: str, bias: bool = True) -> list[np.ndarray]:
        weight = state[f"{name}.weight"]
        # OIHW to HWIO; a depthwise kernel is (k, k, C, 1).
        across = (2, 3, 0, 1) if "dwc" in name else (2, 3, 1, 0)
        return [weight.transpose(across), *([state[f"{name}.bias"]] if bias else [])]

    for layer in model.layers:
        name = layer.name
        if isinstance(layer, layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state[f"{name}.{part}"] for part in parts])
        elif isinstance(layer, layers.Dense):
            layer.set_weights([state[f"{name}.weight"].T, state[f"{name}.bias"]])
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            layer.set_weights(convolution(name))
        elif isinstance(layer, Gate):
            layer.scale.assign(state[name])
        elif isinstance(layer, EMCAM):
            layer.freq_fc.set_weights([state[f"{name}.freq_fc.weight"].T, state[f"{name}.freq_fc.bias"]])
            for part in ("gpc", "dwc3", "dwc5", "fuse"):
                getattr(layer, part).set_weights(convolution(f"{name}.msgdc.{part}", bias=False))
            scalars = {"high": "scale_high", "low": "scale_low", "mean": "scale_mean", "share": "global_scale"}
            for ours, theirs in scalars.items():
                getattr(layer, ours).assign(state[f"{name}.{theirs}"])
            for m in range(2):
                layer.local[m].assign(state[f"{name}.local_scales.{m}"])
                layer.alpha[m].assign(state[f"{name}.alphas.{m}"])
