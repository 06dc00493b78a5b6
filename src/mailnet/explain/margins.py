"""How much of a heat map lies on the black margin of its image, where there is nothing to be seen.

Such heat is not cut away: where the network does use the margin, as whatever tells two scanners apart, that is a fault
the reader must learn of. Coarse layers also let heat of the image run over its edge, by a cell.
"""

from __future__ import annotations

from mailnet.explain.explanation import Explanation
from mailnet.explain.quality.borders import find_padding, share_in
from mailnet.nn.batch import Batch


def heat_on_margins(batch: Batch, explanation: Explanation, row: int) -> dict[str, float]:
    """Return image or volume -> share of its map's energy on the black bars around it; of those that have bars.

    Bars are looked for in the image, so those that ``letterbox`` made and those that were in the file are alike.

    Args:
        batch: The studies.
        explanation: Of these.
        row: Which of them.
    """
    found = {}
    for name, maps in explanation.maps.items():
        if name not in batch.inputs or not bool(batch.present[name][row]):
            continue
        heat = maps[row : row + 1].detach().cpu().numpy()
        padding = find_padding(batch.inputs[name][row : row + 1].detach().cpu().numpy())
        if padding.any() and heat.any():
            found[name] = float(share_in(heat, padding).energy[0])
    return found
