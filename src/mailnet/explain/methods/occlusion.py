"""Occlusion: how much the score falls when a window of one modality is hidden; captum's.

Source: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
"""

from __future__ import annotations

from captum.attr import Occlusion

from mailnet.explain.baselines import Baseline, baselines
from mailnet.explain.question import Question
from mailnet.explain.registry import Found, register_explainer
from mailnet.explain.tuples import Tuples

COLUMNS = 256  # of a table that are hidden one by one; of wider ones several at once


@register_explainer("occlusion")
def occlusion(question: Question, *, window: float = 0.2, stride: float = 0.5, baseline: Baseline = "blur") -> Found:
    """Hide one window after the other; a pixel's value is the mean over the windows that it lies in.

    A map's unit is the fall of the score by a window, which is as large a part of each modality. Columns of a table are
    hidden one by one.

    Args:
        question: What is asked.
        window: Side of the window, a share of the image's side along each axis.
        stride: From one window to the next, a share of the window's side.
        baseline: What fills it, see ``baselines``.

    Raises:
        ValueError: A share outside (0, 1], or a baseline that is refused.
    """
    for name, share in (("window", window), ("stride", stride)):
        if not 0 < share <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, got {share}")
    tuples = Tuples(question)
    windows: list[tuple[int, ...]] = []
    strides: list[tuple[int, ...]] = []
    for x in tuples.inputs:
        if x.ndim == 2:
            side = -(-x.shape[1] // COLUMNS)
            windows.append((side,))
            strides.append((side,))
            continue
        sides = [max(round(window * pixels), 1) for pixels in x.shape[2:]]
        windows.append((x.shape[1], *sides))
        strides.append((x.shape[1], *(max(round(stride * side), 1) for side in sides)))
    values = Occlusion(tuples.forward).attribute(
        tuples.inputs,
        sliding_window_shapes=tuple(windows),
        strides=tuple(strides),
        baselines=tuples.of(baselines(question, baseline)),
        additional_forward_args=tuples.others,
        perturbations_per_eval=tuples.chunk,
    )
    # A window covers all channels, which therefore have one value.
    maps = {name: value.mean(1) for name, value in zip(question.names, values, strict=True) if value.ndim > 2}
    maps = {name: question.spread(name, value.detach()) for name, value in maps.items()}
    return Found(maps, tuples.columns(values), signed=True)
