"""Images under attack lie in memory as convolutions like them, where the network lets them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mailnet.attacks import Problem, Threat, get_attack
from mailnet.attacks.layout import channels_last
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec


class Seen(nn.Module):
    """A convolution and a linear layer; notes the stride of the channels it is given."""

    def __init__(self, views: bool) -> None:
        super().__init__()
        self.modalities = {"photo": ModalitySpec("photo", channels=3, size=(6, 5))}
        self.tasks = {"t": TaskSpec("t", ("a", "b", "c"))}
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 30, 3)
        self.views = views
        self.strides: list[int] = []

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        self.strides.append(inputs["photo"].stride(1))
        x = self.first(inputs["photo"])
        x = x.view(len(x), -1) if self.views else x.flatten(1)
        return {"t": self.last(x)}


def attacked(views: bool) -> tuple[Seen, Tensor]:
    torch.manual_seed(3)
    model = Seen(views).eval()
    images = torch.rand(8, 3, 6, 5)
    with torch.no_grad():
        labels = model({"photo": images})["t"].argmax(1)
    model.strides.clear()
    batch = Batch({"photo": images}, {"photo": torch.ones(8, dtype=torch.bool)}, {"t": labels})
    problem = Problem(model, batch, Threat("linf", {"photo": 0.05}))
    return model, get_attack("bim")(problem, early_drop=False)


def test_values_stay_and_channels_lie_beside_one_another() -> None:
    inputs = {name: torch.rand(2, channels, 4, 5) for name, channels in (("ct", 1), ("photo", 3))}
    inputs |= {"pet": torch.rand(2, 1, 3, 4, 5), "clinic": torch.rand(2, 7)}
    found = channels_last(inputs)
    for name, x in inputs.items():
        assert torch.equal(found[name], x)
    assert [found[name].stride() for name in ("ct", "photo")] == [(20, 1, 5, 1), (60, 1, 15, 3)]
    assert found["pet"] is inputs["pet"]
    assert found["clinic"] is inputs["clinic"]


def test_gradients_go_back_to_where_values_came_from() -> None:
    x, weight = torch.rand(2, 3, 4, 5).requires_grad_(), torch.rand(2, 3, 4, 5)
    (gradient,) = torch.autograd.grad((channels_last({"photo": x})["photo"] * weight).sum(), x)
    assert torch.equal(gradient, weight)


def test_networks_that_cannot_take_it_are_asked_as_ever_and_give_the_same() -> None:
    free, free_found = attacked(views=False)
    bound, bound_found = attacked(views=True)
    assert set(free.strides) == {1}
    assert bound.strides[0] == 1
    assert set(bound.strides[1:]) == {30}
    torch.testing.assert_close(free_found, bound_found)
