from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mailnet.data.config import TrainConfig
from mailnet.errors import RunError
from mailnet.training.checkpoint import Checkpoints, load_optimizer, load_weights, optimizer_tensors
from mailnet.training.optim import create_optimizer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, bias=False))
    return model.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_optimizer_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model = network()
    optimizer = create_optimizer(model, TrainConfig())
    step(model, optimizer, 1)
    tensors = {"network": model.state_dict(), "optimizer": optimizer_tensors(optimizer, model)}
    Checkpoints(tmp_path).save("a", tensors, {"epoch": 1}, None)
    step(model, optimizer, 2)

    again = network()
    other = create_optimizer(again, TrainConfig())
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[1] == {"epoch": 1}
    load_weights(again, found[0]["network"])
    load_optimizer(other, again, found[0]["optimizer"])
    step(again, other, 2)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_only_the_latest_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for epoch in (1, 2, 3):
        checkpoints.save_best(epoch, {"w": torch.full((2,), float(epoch))})
        checkpoints.save(f"epoch-{epoch}", {"network": {"w": torch.zeros(1)}}, {"epoch": epoch}, min(epoch, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-2.safetensors", "epoch-3", "latest.json"]
    assert checkpoints.load_best(2)["w"].tolist() == [2.0, 2.0]


def test_an_unfinished_checkpoint_is_not_taken(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("one", {"network": {"w": torch.zeros(1)}}, {"epoch": 1}, None)
    (tmp_path / ".two").mkdir()
    (tmp_path / "three").mkdir()
    found = checkpoints.load()
    assert found is not None
    assert found[1]["epoch"] == 1


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("one", {"network": {"w": torch.zeros(1)}}, {}, None)
    (tmp_path / "one" / "network.safetensors").write_bytes(b"short")
    with pytest.raises(RunError, match=r"network\.safetensors.*train again"):
        checkpoints.load()


def test_a_refused_write_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("one", {"network": {"w": torch.zeros(1)}}, {"epoch": 1}, None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mailnet.bundle.store.save_file", full)
    with pytest.raises(RunError, match="No space left"):
        checkpoints.save("two", {"network": {"w": torch.ones(1)}}, {"epoch": 2}, None)
    found = checkpoints.load()
    assert found is not None
    assert found[1]["epoch"] == 1


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(RunError, match="does not fit"):
        load_weights(network(), {"w": torch.zeros(1)})
