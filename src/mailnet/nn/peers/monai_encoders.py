"""ResNet-50, DenseNet-121 and EfficientNet-B0 of MONAI without their heads, fitted to small images.

Each function takes a modality and the widths of four stages and gives an encoder, (B, C, ...) in [0, 1] -> (B, C_out,
...) or (B, C_out), with C_out. MONAI is imported when the first of them is made.

Adapted in all three: strides follow ``plan_trunk``, axis by axis, so that small images are not shrunk to nothing; a
stem that does not quarter the image has a 3x3 convolution. From 49 pixels on strides and kernels are as published.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; Huang, Liu, van der Maaten,
Weinberger, "Densely Connected Convolutional Networks", CVPR 2017; Tan, Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks", ICML 2019; Cardoso et al., "MONAI: An open-source framework for deep learning in
healthcare", arXiv 2211.02701, 2022.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from mailnet.errors import MailnetError
from mailnet.nn.layers import InputNorm, Stem, halved, plan_trunk
from mailnet.nn.peers.resnet import residual_stem
from mailnet.specs import ModalitySpec

STAGES = 4
PUBLISHED_WIDTH = 512  # of the last stage of a ResNet-18: the width at which the other networks are as published

# EfficientNet-B0, table 1: blocks, kernel, stride, expansion, channels in, channels out.
EFFICIENTNET_B0 = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def resnet50(spec: ModalitySpec, widths: Sequence[int]) -> tuple[nn.Module, int]:
    """Return a ResNet-50; ``widths`` are those of its bottlenecks, (64, 128, 256, 512) as published.

    Raises:
        ValueError: Not four widths.
    """
    if len(widths) != STAGES:
        raise ValueError(f"resnet50 has {STAGES} stages, got {len(widths)} widths")
    resnet = _monai("resnet")
    network = resnet.ResNet(
        "bottleneck",
        [3, 4, 6, 3],
        list(widths),
        spatial_dims=spec.spatial_dims,
        n_input_channels=spec.channels,
        bias_downsample=False,
        feed_forward=False,
    )
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    for stage, plan in zip(stages[1:], plan_trunk(spec, STAGES)[1][1:], strict=True):
        stage[0].conv2.stride = plan.stride
        stage[0].downsample[0].stride = plan.stride
    encoder = nn.Sequential(InputNorm(spec), _stem(spec, widths[0], "fan_out"), *stages)
    return encoder, widths[-1] * resnet.ResNetBottleneck.expansion


def densenet121(spec: ModalitySpec, widths: Sequence[int]) -> tuple[nn.Module, int]:
    """Return a DenseNet-121 whose growth rate is the last width divided by 16: 32 as published for 512.

    Adapted: the mean that ends a block is taken of what there is where a side is odd, in place of dropping the last
    row.
    """
    dims = spec.spatial_dims
    growth = widths[-1] // 16
    network = _monai("densenet").DenseNet(dims, spec.channels, 1, init_features=2 * growth, growth_rate=growth)
    pool: Any = nn.AvgPool2d if dims == 2 else nn.AvgPool3d
    for number, plan in enumerate(plan_trunk(spec, STAGES)[1][1:], 1):
        transition = getattr(network.features, f"transition{number}")
        transition.pool = pool(plan.stride, plan.stride, ceil_mode=True)
    blocks = list(network.features.children())[4:]  # after MONAI's own stem: convolution, norm, activation and pool
    encoder = nn.Sequential(InputNorm(spec), _stem(spec, 2 * growth, "fan_in"), *blocks, nn.ReLU())
    return encoder, network.class_layers.out.in_features


def efficientnet_b0(spec: ModalitySpec, widths: Sequence[int]) -> tuple[nn.Module, int]:
    """Return an EfficientNet-B0 whose width coefficient is the last width divided by 512, with its dropout at the end.

    Adapted: convolutions are padded evenly on both sides, whatever the size; running statistics follow with a momentum
    of 0.1 in place of 0.01, which would not have settled after a few hundred steps.
    """
    stem, plans = plan_trunk(spec, STAGES)
    network = _monai("efficientnet").EfficientNet(
        [
            f"r{blocks}_k{kernel}_s{stride}{stride}_e{expansion}_i{channels}_o{out}_se0.25"
            for blocks, kernel, stride, expansion, channels, out in EFFICIENTNET_B0
        ],
        spatial_dims=spec.spatial_dims,
        in_channels=spec.channels,
        width_coefficient=widths[-1] / PUBLISHED_WIDTH,
        norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
    )
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if name.endswith("_padding"):
                setattr(module, name, nn.Identity())  # MONAI's is for one size, of equal sides
            elif name == "_swish":
                setattr(module, name, nn.SiLU())  # the same function, computed at once
            elif isinstance(child, nn.Conv2d | nn.Conv3d):
                child.padding = tuple(kernel // 2 for kernel in child.kernel_size)
    # The stem and stage 2 share what other networks' stems do; stages 3, 4 and 6 halve.
    network._conv_stem.stride = halved(stem)
    second = tuple(step // half for step, half in zip(stem, halved(stem), strict=True))
    for stage, stride in zip((1, 2, 3, 5), (second, *(plan.stride for plan in plans[1:])), strict=True):
        network._blocks[stage][0]._depthwise_conv.stride = stride
    encoder = nn.Sequential(
        InputNorm(spec),
        network._conv_stem,
        network._bn0,
        nn.SiLU(),
        network._blocks,
        network._conv_head,
        network._bn1,
        nn.SiLU(),
        network._avg_pooling,
        nn.Flatten(1),
        network._dropout,
    )
    return encoder, network._fc.in_features


def _stem(spec: ModalitySpec, width: int, mode: Literal["fan_in", "fan_out"]) -> Stem:
    """Return a stem that fits the size, initialised as MONAI does the rest of the network."""
    stem = residual_stem(spec, width)
    for parameter in stem.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, mode=mode)
    return stem


def _monai(module: str) -> Any:
    try:
        return importlib.import_module(f"monai.networks.nets.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "monai":
            raise
        raise MailnetError(
            "ResNet-50, DenseNet-121 and EfficientNet-B0 are MONAI's, which is not installed",
            remedy="Install it: pip install mailnet[peers]",
        ) from error
