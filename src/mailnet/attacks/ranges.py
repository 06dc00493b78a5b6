"""Which values inputs may have."""

from __future__ import annotations

from mailnet.attacks.threat import Threat
from mailnet.nn.batch import Batch

TOLERANCE = 1e-3


def check_range(batch: Batch, threat: Threat) -> None:
    """Refuse what is attacked where it lies outside its range.

    Args:
        batch: The studies.
        threat: What of them is attacked, and the boxes of tables.

    Raises:
        ValueError: No study has what is attacked, an image is outside [0, 1], or a table outside its box.
    """
    attacked = [name for name in threat.eps if name in batch.inputs]
    if not attacked:
        raise ValueError(f"no study of the batch has what is attacked: {', '.join(threat.eps)}")
    for name in attacked:
        values = batch.inputs[name][batch.present[name]]
        if name in threat.boxes:
            low, high = (side.to(values) for side in threat.boxes[name])
            slack = TOLERANCE * (high - low)
            outside = ((values < low - slack) | (values > high + slack)) & (low < high)
            if bool(outside.any()):
                column = int(outside.any(0).nonzero()[0])
                raise ValueError(f"modality '{name}' has values outside its box in column {column}; widen the box")
        elif len(values) and not bool(((values >= -TOLERANCE) & (values <= 1 + TOLERANCE)).all()):
            found = f"from {float(values.min()):.4g} to {float(values.max()):.4g}"
            raise ValueError(f"modality '{name}' has values {found}; images must be in [0, 1]")
