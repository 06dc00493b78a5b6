"""The gradient of an attack's problem, with several tasks, random networks, clips; how often the network was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from small_network import BOX, CLINIC, CT, PET, PHOTO, SIGNS, STAGE, THREE, TWO, Small, small_problem, studies
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.attacks import Objective, Problem, Threat, straight_through
from mailnet.attacks.objective import task_losses
from mailnet.attacks.problem import as_mapping
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource, get_noise, set_noise
from mailnet.nn.reference.robust import RobustEMILA
from mailnet.specs import ModalitySpec, TaskSpec

EPS = {"ct": 0.1, "photo": 0.2, "clinic": 0.3}
TASKS = (THREE, TWO, STAGE, SIGNS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_studies_that_an_attack_can_still_gain() -> None:
    absent = {"ct": torch.tensor([False, True, False, False, False, False])}
    model = Small((CT, PHOTO), (THREE, TWO))
    batch = studies(model, absent=absent)
    batch.targets["finding"][2:4] = -1
    batch.targets["grade"][3] = -1  # no label at all
    batch.targets["finding"][4] = (batch.targets["finding"][4] + 1) % 3  # one of two tasks is wrong
    batch.targets["finding"][5] = (batch.targets["finding"][5] + 1) % 3
    batch.targets["grade"][5] = 1 - batch.targets["grade"][5]
    problem = small_problem(model, "linf", {"ct": 0.1}, batch=batch)
    assert problem.standing(problem.ask(problem.space.clean)).tolist() == [True, False, True, False, True, False]


def test_gradient_is_that_of_the_tasks_losses() -> None:
    model = Small((CT, PHOTO, PET, CLINIC), TASKS, hidden=8)
    batch = studies(model, absent={"photo": torch.tensor([False, True, False, False, True, False])})
    batch.targets["finding"][2] = -1
    problem = small_problem(model, "linf", EPS, Objective("margin"), batch)
    x = problem.space.random(seeded())
    asked = problem.ask(x)
    inputs = {name: part.clone().requires_grad_() for name, part in problem.space.split(x).items()}
    logits = model({**batch.inputs, **inputs})  # the volume is not attacked, and stays as it is
    losses = torch.stack([task_losses("margin", task, logits[task.name], batch.targets[task.name]) for task in TASKS])
    gradients = torch.autograd.grad(losses.sum(), list(inputs.values()))
    assert asked.gradient is not None
    torch.testing.assert_close(asked.gradient, torch.cat([part.flatten(1) for part in gradients], 1))
    torch.testing.assert_close(asked.loss, losses.sum(0).detach())
    for name, value in asked.logits.items():
        torch.testing.assert_close(value, logits[name].detach())
    assert torch.equal(asked.broken, problem.objective.broken(problem.tasks, logits, batch.targets))
    assert problem.ask(x, gradient=False).gradient is None


def test_slopes_are_the_gradients_of_each_function() -> None:
    model = Small((CT, PHOTO), (THREE, TWO))
    problem = small_problem(model, "l2", {"photo": 0.1, "ct": 0.2})
    values, slopes = problem.slopes(problem.space.clean, lambda logits: logits["finding"])
    torch.testing.assert_close(values, model(problem.batch.inputs)["finding"])
    weight = model.weights["finding"]
    expected = torch.cat([weight[:, 9:], weight[:, :9]], 1)  # in the order of the threat
    torch.testing.assert_close(slopes, expected.expand(6, -1, -1))


def test_transforms_reach_the_network_and_the_gradient() -> None:
    model = Small((CT, PHOTO), (TWO,), hidden=5)
    problem = small_problem(model, "l2", {"ct": 0.1})
    x = problem.space.random(seeded())
    seen: list[set[str]] = []

    def double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(set(inputs))
        return {name: 2 * part for name, part in inputs.items()}

    changed, at = problem.ask(x, transform=double), problem.ask(2 * x)
    assert changed.gradient is not None
    assert at.gradient is not None
    assert seen == [{"ct"}]
    torch.testing.assert_close(changed.gradient, 2 * at.gradient)
    torch.testing.assert_close(changed.loss, at.loss)


def test_gradients_of_draws_are_averaged() -> None:
    model = Small((CT, PHOTO), (THREE, TWO), hidden=8, noise=1.0)
    draws = 5
    problem = small_problem(model, "linf", {"ct": 0.1, "photo": 0.1}, draws=draws, generator=seeded(3))
    x = problem.space.clean
    asked = problem.ask(x)
    set_noise(model, "sample", generator=seeded(3))
    gradients, losses, chances = [], [], []
    for _ in range(draws):
        point = x.clone().requires_grad_()
        logits = model(problem.inputs(point))
        loss = sum(F.cross_entropy(logits[name], problem.batch.targets[name], reduction="none") for name in logits)
        assert isinstance(loss, Tensor)
        gradients.append(torch.autograd.grad(loss.sum(), point)[0])
        losses.append(loss.detach())
        chances.append({name: value.detach().softmax(1) for name, value in logits.items()})
    assert asked.gradient is not None
    torch.testing.assert_close(asked.gradient, torch.stack(gradients).mean(0))
    torch.testing.assert_close(asked.loss, torch.stack(losses).mean(0))
    means = {name: torch.stack([chance[name] for chance in chances]).mean(0) for name in chances[0]}
    for name, mean in means.items():
        torch.testing.assert_close(asked.logits[name].softmax(1), mean)
    wrong = [mean.argmax(1) != problem.batch.targets[name] for name, mean in means.items()]
    assert torch.equal(asked.broken, torch.stack(wrong).all(0))
    assert problem.questions.tolist() == [draws] * 6


def test_draws_repeat_with_their_generator() -> None:
    model = Small((CT,), (THREE,), noise=1.0)
    answers = []
    for seed in (1, 1, 2):
        problem = small_problem(model, "linf", {"ct": 0.1}, draws=2, generator=seeded(seed))
        answers.append([problem.ask(problem.space.clean).loss for _ in range(2)])
    assert torch.equal(torch.stack(answers[0]), torch.stack(answers[1]))
    assert not torch.equal(torch.stack(answers[0]), torch.stack(answers[2]))
    assert not torch.equal(answers[0][0], answers[0][1])  # fresh numbers at every question


@pytest.mark.parametrize("fails", [False, True], ids=["answers", "fails"])
def test_the_networks_own_source_comes_back(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small((CT,), (THREE,), noise=1.0)
    own = seeded(9)
    set_noise(model, "mean", draws=4, generator=own, shared=True)
    problem = small_problem(model, "linf", {"ct": 0.1}, generator=seeded(1))
    state = own.get_state()
    if fails:
        monkeypatch.setattr(Objective, "losses", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            problem.ask(problem.space.clean)
    else:
        problem.ask(problem.space.clean)
    source = get_noise(model)
    assert isinstance(source, NoiseSource)
    assert (source.mode, source.draws, source.generator, source.shared) == ("mean", 4, own, True)
    assert torch.equal(own.get_state(), state)


def test_a_frozen_network_always_draws_the_same() -> None:
    model = Small((CT,), (THREE,), hidden=8, noise=1.0)
    problem = Problem(model, studies(model), Threat("linf", {"ct": 0.1}), frozen=True)
    first, second = (problem.ask(problem.space.clean) for _ in range(2))
    assert first.gradient is not None
    assert second.gradient is not None
    assert torch.equal(first.gradient, second.gradient)
    assert not torch.equal(first.logits["finding"], model.eval()(problem.batch.inputs)["finding"])
    rows = torch.tensor([4, 1])  # nor does it matter which studies are asked about together
    part = problem.take(rows)
    torch.testing.assert_close(part.ask(part.space.clean).logits["finding"], first.logits["finding"][rows])


class Clips(nn.Module):
    """Two logits of the sum of an image after a clip at both ends, which is flat where ``shift`` carries it out."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.modalities = {"ct": CT}
        self.tasks = {"grade": TWO}
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        total = (inputs["ct"] + self.shift).clamp(0, 1).flatten(1).sum(1)
        return {"grade": torch.stack([total, -total], 1)}


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_clips_let_gradients_pass_only_when_asked_to(shift: float) -> None:
    model = Clips(shift)
    batch = Batch({"ct": torch.full((2, 1, 3, 3), 0.5)}, {"ct": torch.ones(2, dtype=torch.bool)}, {})
    batch.targets["grade"] = torch.zeros(2, dtype=torch.long)
    plain, through = (
        Problem(model, batch, Threat("linf", {"ct": 0.1}), Objective("margin"), straight_through=on)
        for on in (False, True)
    )
    x = plain.space.clean
    assert not bool(plain.ask(x).gradient.any())  # type: ignore[union-attr]
    assert torch.equal(through.ask(x).gradient, torch.full((2, 9), -2.0))  # type: ignore[arg-type]
    assert torch.equal(through.ask(x).logits["grade"], plain.ask(x).logits["grade"])


def test_published_noise_saturates_and_is_passed_through() -> None:
    """Modulated attention noise so strong that every clip is at an end: what feeds it has no gradient of its own."""
    torch.manual_seed(0)
    block = RobustEMILA(16, 16, noise_std=100.0).eval()
    x = torch.rand(2, 16, 8, 8)
    weights = [p for name, p in block.named_parameters() if "ca" in name and name != "ca_scale" and p.ndim > 1]
    assert weights
    gradients = {}
    for on in (False, True):
        set_noise(block, "sample", generator=seeded())
        with straight_through(on):
            gradients[on] = torch.autograd.grad(block(x).sum(), weights)
    assert not any(bool(gradient.any()) for gradient in gradients[False])
    assert all(bool(gradient.any()) for gradient in gradients[True])


def test_published_network_is_passed_through_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sizes = {name: ModalitySpec(name, channels=3, size=(32, 32)) for name in ("mri", "xray")}
    model = create_model("robust_mail_reference", sizes, {"tumour": 2, "finding": 3}, widths=(16, 16, 16, 16)).eval()
    inputs = {name: torch.rand(2, 3, 32, 32) for name in sizes}
    targets = {"tumour": torch.tensor([0, 1]), "finding": torch.tensor([0, 2])}
    batch = Batch(inputs, dict.fromkeys(sizes, torch.ones(2, dtype=torch.bool)), targets)
    threat = Threat("linf", dict.fromkeys(sizes, 0.1))
    asked = {}
    for on in (False, True):
        problem = Problem(model, batch, threat, frozen=True, straight_through=on)
        asked[on] = problem.ask(problem.space.clean)
    clamp = Tensor.clamp

    def passing(x: Tensor, *ends: float) -> Tensor:
        return x + (clamp(x, *ends) - x).detach() if ends == (0, 1) else clamp(x, *ends)

    monkeypatch.setattr(Tensor, "clamp", lambda x, *ends, **named: passing(x, *ends) if ends else clamp(x, **named))
    problem = Problem(model, batch, threat, frozen=True)
    by_hand = problem.ask(problem.space.clean).gradient
    monkeypatch.undo()
    plain, through = asked[False].gradient, asked[True].gradient
    assert plain is not None
    assert through is not None
    assert by_hand is not None
    scale = float(through.abs().max())
    torch.testing.assert_close(through, by_hand, atol=1e-4 * scale, rtol=1e-3)
    assert float((plain - through).abs().max()) > 0.01 * scale
    for name, logits in asked[True].logits.items():
        torch.testing.assert_close(logits, asked[False].logits[name])


def test_clips_at_one_end_keep_their_gradient() -> None:
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    with straight_through():
        one = x.clamp(min=0).sum() + torch.clamp(x, max=1).sum()
        both = torch.clamp(x, 0, 1).sum() + x.clip(min=0, max=1).sum() + torch.clip(input=x, min=0, max=1).sum()
    assert torch.autograd.grad(one, x)[0].tolist() == [1, 1]
    assert torch.autograd.grad(both, x)[0].tolist() == [3, 3]
    assert torch.autograd.grad(x.clamp(0, 1).sum(), x)[0].tolist() == [0, 0]


def test_some_studies_are_a_problem_of_their_own() -> None:
    model = Small((CT, CLINIC), (THREE, SIGNS), hidden=6)
    goals = {"finding": torch.tensor([0, 1, 2, 0, 1, 2])}
    absent = {"ct": torch.tensor([False, False, True, False, False, False])}
    problem = small_problem(
        model, "l2", {"ct": 0.1, "clinic": 0.5}, Objective(goals=goals), studies(model, absent=absent)
    )
    x = problem.space.random(seeded())
    whole = problem.ask(x)
    assert whole.gradient is not None
    rows = torch.tensor([5, 2, 0])
    part = problem.take(rows)
    assert len(part) == 3
    asked = part.ask(x[rows])
    assert asked.gradient is not None
    torch.testing.assert_close(asked.loss, whole.loss[rows])
    torch.testing.assert_close(asked.gradient, whole.gradient[rows])
    assert problem.questions.tolist() == [2, 1, 2, 1, 1, 2]
    again = part.take(torch.tensor([False, False, True]))
    again.ask(x[:1], gradient=False)
    assert problem.questions.tolist() == [3, 1, 2, 1, 1, 2]
    problem.take(torch.tensor([1, 1])).ask(x[[1, 1]])
    assert problem.questions.tolist() == [3, 3, 2, 1, 1, 2]
    problem.slopes(x, lambda logits: logits["finding"])
    assert problem.questions.tolist() == [4, 4, 3, 2, 2, 3]


def test_other_objectives_and_radii() -> None:
    problem = small_problem(Small((CT,), (THREE, TWO)), "linf", {"ct": 0.1})
    wanted = problem.with_objective(Objective("margin", ["grade"]))
    x = problem.space.clean
    margins = task_losses("margin", TWO, wanted.ask(x).logits["grade"], problem.batch.targets["grade"])
    torch.testing.assert_close(wanted.ask(x).loss, margins)
    assert problem.objective.loss == "ce"
    with pytest.raises(ValueError, match="unknown task"):
        problem.with_objective(Objective(tasks=["stage"]))
    assert torch.equal(problem.enlarged(3).space.radius, 3 * problem.space.radius)


def test_problems_that_do_not_fit() -> None:
    model = Small((CT, CLINIC), (THREE,))
    batch = studies(model)
    ct, both = Threat("linf", {"ct": 0.1}), Threat("linf", {"ct": 0.1, "clinic": 0.1}, {"clinic": BOX})

    def changed(**inputs: Tensor) -> Batch:
        return replace(batch, inputs={**batch.inputs, **inputs})

    with pytest.raises(ValueError, match=r"training mode; call eval\(\)"):
        Problem(Small((CT, CLINIC), (THREE,)).train(), batch, ct)
    with pytest.raises(ValueError, match="unknown modality 'mri'"):
        Problem(model, batch, Threat("linf", {"mri": 0.1}))
    with pytest.raises(ValueError, match="unknown task 'stage'"):
        Problem(model, batch, ct, Objective(tasks=["stage"]))
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        Problem(model, batch, ct, draws=0)
    for options in ({"draws": 2}, {"frozen": True}):
        with pytest.raises(ValueError, match="Small draws no random numbers"):
            Problem(model, batch, ct, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from -1 to 254; images must be in \[0, 1\]"):
        Problem(model, changed(ct=torch.linspace(-1, 254, 54).view(6, 1, 3, 3)), ct)
    with pytest.raises(ValueError, match="'ct' has values"):
        Problem(model, changed(ct=torch.full((6, 1, 3, 3), torch.nan)), ct)
    outside = batch.inputs["clinic"].clone()
    outside[:, 3] = 99.0  # of a column that stays
    Problem(model, changed(clinic=outside), both)
    outside[2, 1] = 1.5
    with pytest.raises(ValueError, match="'clinic' has values outside its box in column 1"):
        Problem(model, changed(clinic=outside), both)
    Problem(model, changed(clinic=outside), ct)  # not attacked
    without = Batch({"clinic": batch.inputs["clinic"]}, batch.present, batch.targets)
    with pytest.raises(ValueError, match="no study of the batch has what is attacked: ct"):
        Problem(model, without, ct)


def test_absent_studies_are_not_looked_at() -> None:
    model = Small((CT, CLINIC), (THREE,))
    batch = studies(model, absent={"ct": torch.tensor([True] + [False] * 5)})
    batch.inputs["ct"][0] = 7.0
    problem = small_problem(model, "linf", {"ct": 0.1}, batch=batch)
    assert problem.space.radius[:, 0].tolist() == pytest.approx([0.0] + [0.1] * 5)


def test_one_radius_is_that_of_all_images() -> None:
    modalities = {spec.name: spec for spec in (CT, PET, CLINIC)}
    assert as_mapping(0.1, modalities) == {"ct": 0.1, "pet": 0.1}
    assert as_mapping({"clinic": 0.2}, modalities) == {"clinic": 0.2}


def test_mail_of_our_own_is_a_problem() -> None:
    """The networks that users train: two modalities, one lacking, two tasks."""
    model = create_model(
        "mail", {"ct": CT, "photo": PHOTO}, {"a": 2, "b": TaskSpec("b", ("u", "v", "w"), "ordinal")}
    ).eval()
    here = torch.tensor([True, True, False])
    batch = Batch(
        {"ct": torch.rand(3, 1, 32, 32), "photo": torch.rand(3, 2, 32, 32) * here.view(-1, 1, 1, 1)},
        {"ct": torch.ones(3, dtype=torch.bool), "photo": here},
        {"a": torch.tensor([0, 1, 0]), "b": torch.tensor([0, 1, 2])},
    )
    problem = Problem(model, batch, Threat("linf", {"photo": 0.1, "ct": 0.05}))
    gradient = problem.ask(problem.space.clean).gradient
    assert gradient is not None
    parts = problem.space.split(gradient)
    assert bool(parts["ct"].flatten(1).any(1).all())
    assert parts["photo"].flatten(1).any(1).tolist() == [True, True, False]


def robust_problem(draws: int = 1, frozen: bool = False, smooth: bool = False, seed: int = 7) -> Problem:
    """Three studies and a random network of our own with the published noise."""
    torch.manual_seed(0)
    sizes = {"ct": ModalitySpec("ct", size=(28, 28))}
    options = {"man": "published", "attention": "published", "width": None}
    model = create_model("robust_mail", sizes, {"t": 3}, widths=[16, 16], **options).eval()
    inputs = {"ct": torch.rand(3, 1, 28, 28, generator=seeded(1))}
    batch = Batch(inputs, {"ct": torch.ones(3, dtype=torch.bool)}, {"t": torch.arange(3)})
    threat, generator = Threat("linf", {"ct": 0.1}), seeded(seed)
    return Problem(model, batch, threat, draws=draws, generator=generator, frozen=frozen, straight_through=smooth)


def test_draws_of_robust_mail_are_averaged() -> None:
    problem, single = robust_problem(draws=4), robust_problem()
    asked = problem.ask(problem.space.clean)
    draws = [single.ask(single.space.clean) for _ in range(4)]
    gradients = torch.stack([draw.gradient for draw in draws if draw.gradient is not None])
    assert asked.gradient is not None
    assert not torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(asked.gradient, gradients.mean(0))
    mean = torch.stack([draw.logits["t"].softmax(1) for draw in draws]).mean(0)
    torch.testing.assert_close(asked.logits["t"].softmax(1), mean)


def test_robust_mail_frozen_is_one_draw_for_every_study_and_question() -> None:
    plain, smooth = (robust_problem(frozen=True, smooth=on) for on in (False, True))
    first, again, through = (given.ask(given.space.clean) for given in (plain, plain, smooth))
    assert torch.equal(first.logits["t"], again.logits["t"])
    part = plain.take(torch.tensor([2]))
    alone = part.ask(part.space.clean, gradient=False).logits["t"]
    torch.testing.assert_close(alone, first.logits["t"][2:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(through.logits["t"], first.logits["t"])
    assert first.gradient is not None
    assert through.gradient is not None
    assert not torch.allclose(through.gradient, first.gradient)
