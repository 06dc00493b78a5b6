"""Class activation maps of each modality: Grad-CAM, Grad-CAM++ and LayerCAM, and Grad-CAM against a baseline.

All weigh the features of a layer by the gradient of the class's score. Each modality has its own layer. The weights are
scaled so that a map is a density: where the features are averaged and a linear head reads the mean, as in most networks
here, its mean over space is what the modality adds to the score, however many cells the layer has.

Which layer: the last that has about seven cells an axis, as the very last of a ResNet has at the published 224 pixels.
That of a network for 64 pixels has two, which say nothing of where.

Sources: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
2017; Chattopadhay, Sarkar, Howlader, Balasubramanian, "Grad-CAM++: Generalized Gradient-based Visual Explanations for
Deep Convolutional Networks", WACV 2018; Jiang, Zhang, Hou, Cheng, Wei, "LayerCAM: Exploring Hierarchical Class
Activation Maps for Localization", IEEE TIP 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mailnet.explain.baselines import Baseline, baselines
from mailnet.explain.geometry import cell_centre, to_pixels
from mailnet.explain.layers import CELLS, Layers, Stage, Wanted, differentiate, layers_of
from mailnet.explain.question import Question
from mailnet.explain.registry import Found, register_explainer
from mailnet.nn.ensemble import Ensemble
from mailnet.nn.layers import expand_as, pool_mean, spatial_axes


@register_explainer("grad_cam")
def grad_cam(
    question: Question,
    *,
    stage: int | str = "last",
    cells: int = CELLS,
    against: Baseline | None = None,
    rectify: bool = True,
    layers: Layers | None = None,
) -> Found:
    """Weigh each channel by the mean of its gradient.

    Args:
        question: What is asked.
        stage: See ``Wanted``.
        cells: See ``Wanted``.
        against: A baseline whose features are taken away first, see ``baselines``; costs one pass more. Surroundings
            and padding that look like what the class looks like are as bright in both, and so go out; None as
            published.
        rectify: Keep only what speaks for the class, as published.
        layers: Modality -> the module to look at, in place of the network's own.

    Raises:
        ValueError: The network has no such layers.
    """
    return _maps(question, _grad_cam, Wanted(stage, cells), layers, against, signed=not rectify)


@register_explainer("grad_cam_pp")
def grad_cam_pp(
    question: Question,
    *,
    stage: int | str = "last",
    cells: int = CELLS,
    against: Baseline | None = None,
    layers: Layers | None = None,
) -> Found:
    """Weigh each channel by its positive gradients, a cell the more the less of the channel there is elsewhere.

    Arguments and errors are those of ``grad_cam``.
    """
    return _maps(question, _grad_cam_pp, Wanted(stage, cells), layers, against)


@register_explainer("layer_cam")
def layer_cam(
    question: Question,
    *,
    stage: int | str = "fused",
    cells: int = CELLS,
    against: Baseline | None = None,
    layers: Layers | None = None,
) -> Found:
    """Weigh each cell of each channel by its own gradient where that is positive.

    Adapted: the maps of several stages are all densities of one score, so they are fused as they are, by their
    geometric mean: a place counts where every stage says so. The authors bring each to the range [0, 1] and take the
    maximum, after which two modalities have no scale in common.

    Arguments and errors are those of ``grad_cam``; ``stage`` is ``fused`` here.
    """
    return _maps(question, _layer_cam, Wanted(stage, cells), layers, against)


@register_explainer("contrast_cam")
def contrast_cam(
    question: Question,
    *,
    stage: int | str = "fused",
    cells: int = CELLS,
    against: Baseline = "blur",
    layers: Layers | None = None,
) -> Found:
    """Grad-CAM of what a baseline does not have, of several stages.

    Grad-CAM shows all that speaks for a class, also what every image has: where a class has dark lesions, the black
    surroundings and the padding of a scan speak for it as well, and light up. Here only the features that the image has
    and its blurred copy has not are weighed, and stages are fused as in ``layer_cam``. Weights times the change of the
    features are what the score changes by, to first order, from the baseline to the image.

    Arguments and errors are those of ``grad_cam``.
    """
    return _maps(question, _grad_cam, Wanted(stage, cells), layers, against)


def _grad_cam(stage: Stage) -> Tensor:
    weights = stage.cells * pool_mean(stage.gradient)  # (n, C)
    return (expand_as(weights, stage.features) * stage.change).sum(1)


def _grad_cam_pp(stage: Stage) -> Tensor:
    a, g = stage.features, stage.gradient
    # Of the exponential of the score, whose derivatives are powers of g; the exponential itself cancels.
    total = expand_as(a.sum(spatial_axes(a)), a)
    below = 2 * g.square() + total * g.pow(3)
    alpha = torch.where((g > 0) & (below > 0), g.square() / below.clamp(min=torch.finfo(g.dtype).tiny), 0.0)
    weights = (alpha * g.relu()).sum(spatial_axes(g))  # (n, C)
    return (expand_as(weights, a) * stage.change).sum(1)


def _layer_cam(stage: Stage) -> Tensor:
    return stage.cells * (stage.gradient.relu() * stage.change).sum(1).relu()


def _maps(
    question: Question,
    rule: Callable[[Stage], Tensor],
    wanted: Wanted,
    layers: Layers | None,
    against: Baseline | None,
    signed: bool = False,
) -> Found:
    if signed and wanted.stage == "fused":
        raise ValueError("stages can be fused only of what speaks for a class: rectify, or choose one stage")
    centre = cell_centre(question.model)
    base = None if against is None else baselines(question, against)
    # Each member of an ensemble has features of its own, by which the common score is differentiated: what they say for
    # the class adds up.
    if isinstance(question.model, Ensemble) and layers is None:
        parts = [layers_of(member) for member in question.model.members]
    else:
        parts = [layers_of(question.model, layers)]
    maps: dict[str, Tensor] = {}
    stages: dict[str, tuple[Tensor, ...]] = {}
    for found in differentiate(question, wanted, parts, base):
        for name, several in found.items():
            size = tuple(question.batch.inputs[name].shape[2:])
            own = tuple(to_pixels(question.spread(name, rule(stage)), size, centre) for stage in several)
            maps[name] = _geometric_mean(own) + maps.get(name, 0)
            stages[name] = (*stages.get(name, ()), *own)
    return Found(maps, signed=signed, stages={name: several for name, several in stages.items() if len(several) > 1})


def _geometric_mean(several: tuple[Tensor, ...]) -> Tensor:
    if len(several) == 1:
        return several[0]
    # One root of the product, which is slow; of maps brought to 1, lest small ones leave nothing of it.
    product, scale = torch.ones_like(several[0]), torch.ones_like(several[0][:1])
    for values in several:
        top = values.flatten(1).amax(1).clamp(min=torch.finfo(values.dtype).tiny)
        top = top.reshape(-1, *(1,) * (values.ndim - 1))
        product = product * (values / top).clamp(min=0)
        scale = scale * top.pow(1 / len(several))
    return product.pow(1 / len(several)) * scale
