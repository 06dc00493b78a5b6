"""A calibrator as a layer of the exported network, so that who runs it needs nothing else for calibrated answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.trust.calibration import SMALLEST, Calibrator, Knots


class Calibration(nn.Module):
    """What ``Calibrator.apply`` does, in float32.

    Where rounding makes two probabilities equal, ``Calibrator.apply`` sets them apart by their last digit and this
    layer does not.

    Args:
        calibrator: A fitted one.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, calibrator: Calibrator) -> None:
        super().__init__()
        self.kind, self.method = calibrator.kind, calibrator.method
        self.register_buffer("scale", torch.tensor(calibrator.scale, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(calibrator.shift or (0.0,), dtype=torch.float32))
        self.curves = nn.ModuleList(_Curve(knots) for knots in calibrator.knots)

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return calibrated probabilities (N, K) of those that the network gives."""
        if self.method == "none":
            return probabilities
        if self.method == "isotonic":
            if self.kind == "binary":
                second = self.curves[0](probabilities[:, 1])
                return torch.stack([1 - second, second], 1)
            return torch.stack([curve(probabilities[:, k]) for k, curve in enumerate(self.curves)], 1)
        if self.kind == "multilabel":
            logits = _logarithms(probabilities) - _logarithms(1 - probabilities)
            return torch.sigmoid(self.scale * logits + self.shift)
        return torch.softmax(self.scale * _logarithms(probabilities) + self.shift, -1)


class _Curve(nn.Module):
    """Linear interpolation between knots, as ``numpy.interp``: at a step the value after it."""

    before: Tensor
    after: Tensor
    slope: Tensor

    def __init__(self, knots: Knots) -> None:
        super().__init__()
        before, after = (np.asarray(values, dtype=np.float64) for values in knots)
        self.empty = not len(before)
        run = np.diff(before)
        # Between two knots in one place nothing lies, and after the last one all is flat.
        slope = np.append(np.diff(after) / np.where(run > 0, run, 1) * (run > 0), 0.0) if len(before) else before
        for name, values in (("before", before), ("after", after), ("slope", slope)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, p: Tensor) -> Tensor:
        """(N,) -> (N,)."""
        if self.empty:
            return p
        place = (p[:, None] >= self.before).sum(1)  # knots at or before p
        left = (place - 1).clamp(min=0)
        start, base, slope = (values.index_select(0, left) for values in (self.before, self.after, self.slope))
        value = base + slope * (p - start)
        return torch.where(place == 0, self.after[0], value)


def _logarithms(values: Tensor) -> Tensor:
    return values.clamp(SMALLEST, 1.0).log()
