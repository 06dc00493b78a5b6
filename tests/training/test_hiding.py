from __future__ import annotations

import numpy as np
import torch

from mailnet.nn.batch import Batch
from mailnet.training.hiding import hide_modalities, separate_companions


def test_hides_at_the_rate_asked_and_never_the_last_modality() -> None:
    n = 4000
    some = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.5
    present = {"a": torch.ones(n, dtype=torch.bool), "b": some, "c": some}
    batch = Batch({name: torch.ones(n, 3) for name in present}, present)
    hidden = hide_modalities(batch, 0.3, torch.Generator().manual_seed(0))
    kept = torch.stack(list(hidden.present.values()), 1)
    assert bool(kept.any(1).all())
    assert not bool((kept & ~torch.stack(list(present.values()), 1)).any())
    assert bool(kept[~some, 0].all())
    share = kept[some].float().mean(0)  # one of three is spared, so 1 - 0.3 * 2 / 3
    torch.testing.assert_close(share, torch.full((3,), 0.8), atol=0.04, rtol=0)
    for name, x in hidden.inputs.items():
        assert torch.equal(x[:, 0] > 0, hidden.present[name] & (batch.inputs[name][:, 0] > 0))


def test_the_same_generator_hides_the_same() -> None:
    batch = Batch({}, {"a": torch.ones(50, dtype=torch.bool), "b": torch.ones(50, dtype=torch.bool)})
    once, again = (hide_modalities(batch, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(once.present["a"], again.present["a"])


def test_nothing_to_hide() -> None:
    single = Batch({}, {"a": torch.ones(5, dtype=torch.bool)})
    assert hide_modalities(single, 0.9, torch.Generator()) is single


def test_separating_loses_no_image() -> None:
    rows = np.array([[0, 10, 20], [1, 11, -1], [2, 12, 22], [3, 13, 23]])
    for chance in (0.0, 0.5, 1.0):
        apart = separate_companions(rows, chance, np.random.default_rng(0))
        assert (apart >= 0).any(1).all()
        for own, before in zip(apart.T, rows.T, strict=True):
            assert sorted(own[own >= 0]) == sorted(before[before >= 0])
    assert len(separate_companions(rows, 1.0, np.random.default_rng(0))) == 11
