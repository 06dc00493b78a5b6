"""The picture of an explained study."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mailnet.explain.explanation import Explanation
from mailnet.explain.margins import heat_on_margins
from mailnet.explain.overlay.bars import draw_bars, find_bars
from mailnet.explain.overlay.colours import colour_map, scale_top
from mailnet.explain.overlay.planes import Array, best_planes, montage, shown
from mailnet.explain.score import class_probability
from mailnet.files import replacing
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

ACROSS = 4  # images beside one another
CELL = 2.7  # inches
DPI = 110
NOTABLE = 0.05  # share of the heat on an image's black margin that is said beside it
# What the numbers of a heat map mean, by method; those of other methods mean nothing but more and less.
HEAT_UNITS = {
    "integrated_gradients": "log-odds, were the whole image so",
    "occlusion": "log-odds lost with a window",
    "emcam": "attention, relative to its mean",
}
STYLE: Any = {"font.size": 9, "text.parse_math": False, "axes.titlesize": 9, "savefig.facecolor": "white"}


@dataclass
class _Panel:
    name: str
    note: str
    image: Array | None = None  # None where the study lacks it
    heat: Array | None = None
    mask: Array | None = None
    planes: bool = False  # several, of a volume


def draw_explanation(
    batch: Batch,
    explanation: Explanation,
    row: int,
    *,
    modalities: Mapping[str, ModalitySpec],
    task: TaskSpec,
    probabilities: Tensor | Array | None = None,
    truth: str | None = None,
    title: str | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    shares: Mapping[str, float] | None = None,
    planes: Mapping[str, int] | None = None,
    masks: Mapping[str, Array] | None = None,
    unit: str = "worth, log-odds of the class",
    opacity: float = 0.75,
) -> bytes:
    """Draw each image of a study alone and under its heat map, all on one colour scale, and tables as bars.

    Nothing in the picture says whose study it is, unless ``title`` does.

    Args:
        batch: The studies.
        explanation: Of these studies.
        row: Which of them.
        modalities: Those of the network, in the order in which they are shown.
        task: The task that was explained.
        probabilities: (K,) of the classes of the study, for the title.
        truth: What is known to be true, for the title.
        title: Put before it, as the name of the study.
        columns: Table -> names of its features.
        shares: Modality -> what it is worth, as its Shapley value, for a chart of its own.
        planes: Image -> number of neighbouring planes that its channels are made of, where these are more than one.
        masks: Image or volume -> (H, W) or (D, H, W) bool, of which the outline is drawn.
        unit: Of the bars.
        opacity: Of the highest values, in [0, 1].

    Returns:
        A PNG file.

    Raises:
        ValueError: An opacity outside of [0, 1], or no such row.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    if not 0 <= row < len(batch):
        raise ValueError(f"there is no row {row}; the batch has {len(batch)}")
    images = {name: spec for name, spec in modalities.items() if spec.spatial_dims}
    margins = heat_on_margins(batch, explanation, row)
    panels = [_panel(batch, explanation, row, spec, planes or {}, masks or {}, margins) for spec in images.values()]
    bars = find_bars(batch, explanation, row, modalities, columns or {}, shares)
    top = scale_top({panel.name: panel.heat for panel in panels if panel.heat is not None})
    across = min(ACROSS, max(len(panels), len(bars), 1))
    blocks = math.ceil(len(panels) / across)
    longest = max((len(values) for _, values in bars), default=0)
    heights = [2 * blocks * _cell_height(panels), math.ceil(len(bars) / across) * (0.22 * longest + 0.7)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CELL * across + 1, sum(heights) + 0.5), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(_headline(explanation, row, task, probabilities, truth, title), fontsize=10)
        # Apart from each other, so that the names of bars do not push images away.
        parts: Any = figure.subfigures(2, 1, height_ratios=[max(height, 0.01) for height in heights])
        if panels:
            grid = parts[0].subplots(2 * blocks, across, squeeze=False)
            _draw_images(grid, panels, top, explanation.signed, opacity)
            _colour_bar(parts[0], grid, top, explanation, opacity)
        if bars:
            grid = parts[1].subplots(math.ceil(len(bars) / across), across, squeeze=False)
            for axes in grid.flat[len(bars) :]:
                axes.remove()
            for axes, (name, values) in zip(grid.flat, bars, strict=False):
                draw_bars(axes, name, values, unit, longest)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def write_picture(path: str | Path, picture: bytes) -> None:
    """Write a picture at once or not at all.

    Raises:
        RunError: It cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(picture)


def _panel(
    batch: Batch,
    explanation: Explanation,
    row: int,
    spec: ModalitySpec,
    planes: Mapping[str, int],
    masks: Mapping[str, Array],
    margins: Mapping[str, float],
) -> _Panel:
    name = spec.name
    if name not in batch.inputs or not bool(batch.present[name][row]):
        return _Panel(name, "absent")
    image = shown(batch.inputs[name][row].detach().cpu().numpy(), planes.get(name, 1))
    found = explanation.maps.get(name)
    heat = None if found is None else found[row].detach().cpu().double().numpy()
    panel = _Panel(name, "", image, heat, masks.get(name))
    if heat is None:
        panel.note = "not explained"
    elif not heat.any():
        panel.note = "zero everywhere"
    elif (share := margins.get(name, 0.0)) >= NOTABLE:
        panel.note = f"{share:.0%} of the heat on the black margin"
    if spec.kind == "volume":
        size = image.shape[:3]
        chosen = best_planes(np.zeros(size) if heat is None else heat)
        named = zip(("axial", "coronal", "sagittal"), chosen, size, strict=True)
        numbers = ", ".join(f"{name} {k + 1}/{of}" for name, k, of in named)
        panel.note = f"{numbers}\n{panel.note}".strip()
        panel.planes = True
        panel.image = montage(image, chosen, 1.0)
        panel.heat = None if heat is None else montage(heat, chosen, np.nan)
        panel.mask = None if panel.mask is None else montage(panel.mask.astype(float), chosen, 0.0) > 0.5
    return panel


def _cell_height(panels: Sequence[_Panel]) -> float:
    ratios = [panel.image.shape[0] / panel.image.shape[1] for panel in panels if panel.image is not None]
    return CELL * min(max(max(ratios, default=1.0), 0.35), 1.5) + 0.3


def _draw_images(grid: Any, panels: Sequence[_Panel], top: float, signed: bool, opacity: float) -> None:
    across = grid.shape[1]
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for spare in range(len(panels), grid.size // 2):
        for below in (0, 1):
            grid[2 * (spare // across) + below, spare % across].remove()
    for k, panel in enumerate(panels):
        for below in (0, 1):
            axes = grid[2 * (k // across) + below, k % across]
            if not below:
                axes.set_title(panel.name)
            if panel.image is None:
                axes.set_aspect("equal", adjustable="box")
                axes.text(0.5, 0.5, panel.note, ha="center", va="center", color="0.4", transform=axes.transAxes)
                continue
            if panel.planes:
                axes.spines[:].set_visible(False)
            if below and panel.note:
                axes.set_xlabel(panel.note, fontsize=8)
            # Colours of the image would mix with those of the heat map.
            image = panel.image if not below or panel.image.ndim == 2 else panel.image.mean(-1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            if below and panel.heat is not None:
                low = -top if signed else 0.0
                axes.imshow(panel.heat, cmap=colour_map(signed, opacity), vmin=low, vmax=top or 1, interpolation="none")
            if panel.mask is not None and panel.mask.any():
                for colour, width in (("black", 2.2), ("white", 1.0)):
                    axes.contour(panel.mask, levels=[0.5], colors=colour, linewidths=width)


def _colour_bar(part: Any, grid: Any, top: float, explanation: Explanation, opacity: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if top == 0:
        return
    signed, unit = explanation.signed, HEAT_UNITS.get(explanation.method)
    scale = ScalarMappable(Normalize(-top if signed else 0, top), colour_map(signed, opacity))
    axes = [one for one in grid.flat if one.figure is not None]
    label = f"heat: {unit}" if unit else "heat: no unit, one scale for all images"
    bar = part.colorbar(scale, ax=axes, shrink=0.9, aspect=30, extend="both" if signed else "max", label=label)
    if unit is None and signed:
        bar.set_ticks([-top, 0, top], labels=["against", "0", "for"])
    elif unit is None:
        bar.set_ticks([0, top], labels=["none", "most"])
    bar.ax.set_facecolor("0.5")  # as on grey


def _headline(
    explanation: Explanation,
    row: int,
    task: TaskSpec,
    probabilities: Tensor | Array | None,
    truth: str | None,
    title: str | None,
) -> str:
    target = explanation.target[row : row + 1].cpu()
    name = task.classes[int(target)]
    if task.kind == "ordinal":
        name = f"at least {name}" if int(target) else f"at most {name}"
    said = f"{task.name}: {name}"
    if probabilities is not None:
        found = torch.as_tensor(probabilities).detach().cpu().float()[None]
        said += f" (probability {float(class_probability(task, found, target)):.2f})"
    if truth is not None:
        said += f", truth: {truth}"
    method = explanation.method.replace("_", " ")
    return "\n".join(part for part in (title, f"{said}, by {method}") if part)
