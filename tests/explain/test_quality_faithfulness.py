"""Insertion, deletion and completeness on networks whose answers are known."""

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from mailnet.explain import Explanation
from mailnet.explain.quality import completeness, insertion_deletion
from mailnet.explain.quality.blur import blur
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.noise import get_noise, set_noise
from mailnet.specs import ModalitySpec, TaskSpec

SIZE = 16


class Weighted(nn.Module):
    """P(yes) by the sum of weighted pixels of two modalities of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.modalities = {
            "a": ModalitySpec("a", size=(SIZE, SIZE)),
            "b": ModalitySpec("b", channels=2, size=(8, 8)),
        }
        self.tasks = {"finding": TaskSpec("finding", ("no", "yes"), "binary")}
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(1, SIZE, SIZE, generator=generator) * 0.2)
        self.b = nn.Parameter(torch.randn(2, 8, 8, generator=generator) * 0.4)
        self.largest, self.seen = 0, 0

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        size = len(next(iter(inputs.values())))
        self.largest, self.seen = max(self.largest, size), self.seen + size
        logit = sum((x * getattr(self, name)).flatten(1).sum(1) for name, x in inputs.items())
        assert isinstance(logit, Tensor)
        return {"finding": torch.stack([torch.zeros_like(logit), logit], 1)}


@pytest.fixture
def network() -> Weighted:
    return Weighted().eval()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = {
        "a": torch.rand(4, 1, SIZE, SIZE, generator=generator),
        "b": torch.rand(4, 2, 8, 8, generator=generator),
    }
    present = {"a": torch.tensor([True, True, False, True]), "b": torch.tensor([True, True, True, False])}
    for name, here in present.items():
        images[name][~here] = 0
    return Batch(images, present)


def explained(network: Weighted, batch: Batch, sign: float = 1) -> Explanation:
    maps = {}
    for name, x in batch.inputs.items():
        change = x - x.mean((2, 3), keepdim=True)
        maps[name] = (sign * getattr(network, name) * change).sum(1).detach() * x[0, 0].numel()  # densities
    return Explanation("finding", torch.ones(4, dtype=torch.long), "exact", maps, signed=True)


def test_the_true_order_rises_at_once_and_its_opposite_last(network: Weighted, batch: Batch) -> None:
    right = insertion_deletion(network, batch, explained(network, batch), fill="mean")
    wrong = insertion_deletion(network, batch, explained(network, batch, -1), fill="mean")
    assert right.shares.tolist() == pytest.approx([k / 20 for k in range(21)])
    assert (right.gap > 0.1).all()
    assert (wrong.gap < -0.1).all()
    assert right.insertion_area == pytest.approx(torch.trapezoid(right.insertion, dx=0.05))


def test_curves_begin_and_end_with_the_images_themselves(network: Weighted, batch: Batch) -> None:
    found = insertion_deletion(network, batch, explained(network, batch), fill="mean")
    with torch.no_grad():
        whole = network(batch.inputs)["finding"].softmax(1)[:, 1]
        filled = {name: x.mean((2, 3), keepdim=True).expand_as(x) for name, x in batch.inputs.items()}
        empty = network(filled)["finding"].softmax(1)[:, 1]
    for curve, ends in ((found.insertion, (empty, whole)), (found.deletion, (whole, empty))):
        torch.testing.assert_close(curve[:, 0], ends[0])
        torch.testing.assert_close(curve[:, -1], ends[1])


def test_absent_modalities_are_not_touched_and_passes_are_as_large_as_said(network: Weighted, batch: Batch) -> None:
    given: list[Batch] = []

    def ask(studies: Batch, target: Tensor) -> Tensor:
        given.append(studies)
        return network.forward(studies.inputs)["finding"].softmax(1)[:, 1]

    steps = 5
    insertion_deletion(ask, batch, explained(network, batch), steps=steps, batch_size=3)
    for studies in given:
        assert len(studies) <= 3
        assert {name for name, here in studies.present.items() if here.any()} == set(studies.inputs)
        assert all(here.all() or not here.any() for here in studies.present.values())
    assert sum(len(studies) for studies in given) == 4 * 2 * steps


def test_one_modality_alone_leaves_the_other_whole(network: Weighted, batch: Batch) -> None:
    seen: list[Tensor] = []

    def ask(studies: Batch, target: Tensor) -> Tensor:
        if {"a", "b"} <= set(studies.inputs):
            seen.append(studies.inputs["a"][0])
        return network.forward(studies.inputs)["finding"].softmax(1)[:, 1]

    found = insertion_deletion(ask, batch, explained(network, batch), steps=3, modalities=["b"], batch_size=2)
    assert all(any(torch.equal(image, whole) for whole in batch.inputs["a"]) for image in seen)
    assert found.gap.isnan().tolist() == [False, False, False, True]  # the last study has no "b"


def test_equal_values_come_in_no_order_of_place(network: Weighted, batch: Batch) -> None:
    blank = Explanation("finding", torch.ones(4, dtype=torch.long), "blank", {"a": torch.zeros(4, SIZE, SIZE)})
    states: list[Tensor] = []

    def ask(studies: Batch, target: Tensor) -> Tensor:
        states.append(studies.inputs["a"])
        return network.forward(studies.inputs)["finding"].softmax(1)[:, 1]

    only = Batch({"a": batch.inputs["a"][:2]}, {"a": batch.present["a"][:2]})
    some = Explanation("finding", blank.target[:2], "blank", {"a": blank.maps["a"][:2]})
    insertion_deletion(ask, only, some, steps=2, fill="mean")
    half = torch.cat(states)[2:4]  # insertion after one of two steps
    kept = (half != only.inputs["a"].mean((2, 3), keepdim=True)).float()
    for part in (kept[..., : SIZE // 2, :], kept[..., SIZE // 2 :, :]):
        assert 0.35 < part.mean() < 0.65


def test_images_of_any_size_count_alike() -> None:
    taken: list[tuple[float, float]] = []

    def ask(studies: Batch, target: Tensor) -> Tensor:
        taken.append((float(studies.inputs["a"].mean()), float(studies.inputs["b"].mean())))
        return torch.zeros(len(studies))

    images = {"a": torch.zeros(1, 1, 8, 8), "b": torch.zeros(1, 1, 16, 16)}
    for x in images.values():
        x[..., : x.shape[-1] // 2] = 1  # the mean, and so the fill, is one half
    here = torch.ones(1, dtype=torch.bool)
    maps = {"a": images["a"][:, 0], "b": images["b"][:, 0]}
    some = Explanation("t", torch.zeros(1, dtype=torch.long), "bright", maps)
    insertion_deletion(ask, Batch(images, {"a": here, "b": here}), some, steps=4, fill="mean", batch_size=1)
    # A quarter of the area in: of what is bright, a half, and of no image much more than of the other.
    inserted = taken[1]
    assert inserted[0] == pytest.approx(0.5 + 0.125, abs=0.06)
    assert inserted[1] == pytest.approx(0.5 + 0.125, abs=0.03)
    assert sum(inserted) == pytest.approx(1.25, abs=0.02)


def test_an_ordinal_task_is_asked_for_at_least_the_grade() -> None:
    class Graded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tasks = {"g": TaskSpec("g", ("low", "mid", "high"), "ordinal")}

        def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"g": torch.tensor([[2.0, -1.0]]).expand(len(inputs["a"]), 2)}

    three = Batch({"a": torch.rand(3, 1, 8, 8)}, {"a": torch.ones(3, dtype=torch.bool)})
    some = Explanation("g", torch.arange(3), "any", {"a": torch.rand(3, 8, 8)})
    found = insertion_deletion(Graded().eval(), three, some, steps=1)
    wanted = torch.tensor([-2.0, 2.0, -1.0]).sigmoid()
    torch.testing.assert_close(found.insertion[:, 0], wanted)


def test_a_random_network_meets_the_same_numbers_at_every_step() -> None:
    torch.manual_seed(0)
    model = create_model("robust_mail", {"a": ModalitySpec("a", size=(SIZE, SIZE))}, {"t": 2}, width="nano")
    model.eval()
    here = {"a": torch.ones(2, dtype=torch.bool)}
    batch = Batch({"a": torch.full((2, 1, SIZE, SIZE), 0.5)}, here)
    flat = Explanation("t", torch.tensor([0, 1]), "flat", {"a": torch.rand(2, SIZE, SIZE)})
    # The mean of an even image is that image, so nothing changes from step to step but the draws.
    found = insertion_deletion(model, batch, flat, steps=2, fill="mean", draws=2, batch_size=3)
    torch.testing.assert_close(found.insertion, found.insertion[:, :1].expand(2, 3))
    assert found.gap.abs().max() < 1e-6
    source = set_noise(model, "off")
    quiet = insertion_deletion(model, batch, flat, steps=1, fill="mean")
    with torch.no_grad():
        wanted = model(batch.inputs, here)["t"].softmax(1).gather(1, flat.target[:, None])
    torch.testing.assert_close(quiet.insertion[:, :1], wanted)
    assert get_noise(model) is source


def test_wrong_arguments_are_refused(network: Weighted, batch: Batch) -> None:
    maps = explained(network, batch)
    with pytest.raises(ValueError, match="no map of 'mri'"):
        insertion_deletion(network, batch, maps, modalities=["mri"])
    with pytest.raises(ValueError, match="steps"):
        insertion_deletion(network, batch, maps, steps=0)
    with pytest.raises(ValueError, match="fill 'noise'"):
        insertion_deletion(network, batch, maps, fill="noise")  # type: ignore[arg-type]
    small = Explanation("finding", maps.target, "small", {"a": torch.zeros(4, 4, 4)})
    with pytest.raises(ValueError, match="size"):
        insertion_deletion(network, batch, small)
    with pytest.raises(ValueError, match="training"):
        insertion_deletion(network.train(), batch, maps)


def test_blur_keeps_the_mean_of_the_middle_and_even_images() -> None:
    even = torch.full((1, 2, 6, 7, 8), 0.3)
    torch.testing.assert_close(blur(even, 3.0), even)
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    found = blur(point, 2.0)
    assert found.sum() == pytest.approx(1, abs=1e-4)
    # The peak of a Gaussian of two dimensions is 1 / (2 pi sigma^2).
    assert found.max() == pytest.approx(1 / (2 * torch.pi * 4), rel=0.01)
    assert torch.equal(blur(point, 0), point)
    with pytest.raises(ValueError, match="sigma"):
        blur(point, -1)


def test_the_residual_is_the_convergence_delta_of_captum() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.GELU(), nn.Linear(8, 2))
    x = torch.rand(3, 2, 4, 4)
    target = torch.tensor([0, 1, 1])
    found, delta = IntegratedGradients(net).attribute(x, target=target, n_steps=4, return_convergence_delta=True)
    with torch.no_grad():
        change = (net(x) - net(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    # As densities: the mean over a map is what it is worth.
    maps = {"upper": 8 * found[:, :, :2].sum(1), "lower": 8 * found[:, :, 2:].sum(1)}
    residual = completeness(Explanation("t", target, "integrated_gradients", maps), change)
    torch.testing.assert_close(residual.float(), delta.float(), atol=1e-6, rtol=1e-4)
    relative = completeness(Explanation("t", target, "integrated_gradients", maps), change, relative=True)
    torch.testing.assert_close(relative, residual / change.double().abs())
    with pytest.raises(ValueError, match="difference"):
        completeness(Explanation("t", target, "integrated_gradients", maps), change[:2])
