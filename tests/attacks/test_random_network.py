"""Random networks under attack: averaged draws, frozen ones, and clips that hide the gradient."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from small_network import CT, PHOTO, THREE, TWO, Small, small_problem, studies
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.attacks import Objective, Problem, Threat, is_random, straight_through
from mailnet.attacks.randomness import NoiseUse
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource, get_noise, set_noise
from mailnet.nn.reference.robust import RobustEMILA
from mailnet.specs import ModalitySpec


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    problem = Problem(model, studies(model), Threat("linf", {"ct": 0.1}), noise="frozen")
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
        problem = Problem(model, batch, threat, noise="frozen", straight_through=on)
        asked[on] = problem.ask(problem.space.clean)
    clamp = Tensor.clamp

    def passing(x: Tensor, *ends: float) -> Tensor:
        return x + (clamp(x, *ends) - x).detach() if ends == (0, 1) else clamp(x, *ends)

    monkeypatch.setattr(Tensor, "clamp", lambda x, *ends, **named: passing(x, *ends) if ends else clamp(x, **named))
    problem = Problem(model, batch, threat, noise="frozen")
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


def robust_problem(draws: int = 1, noise: NoiseUse = "sample", smooth: bool = False, seed: int = 7) -> Problem:
    """Three studies and a random network of our own with the published noise."""
    torch.manual_seed(0)
    sizes = {"ct": ModalitySpec("ct", size=(28, 28))}
    options = {"man": "published", "attention": "published", "width": None}
    model = create_model("robust_mail", sizes, {"t": 3}, widths=[16, 16], **options).eval()
    inputs = {"ct": torch.rand(3, 1, 28, 28, generator=seeded(1))}
    batch = Batch(inputs, {"ct": torch.ones(3, dtype=torch.bool)}, {"t": torch.arange(3)})
    threat, generator = Threat("linf", {"ct": 0.1}), seeded(seed)
    return Problem(model, batch, threat, draws=draws, generator=generator, noise=noise, straight_through=smooth)


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
    plain, smooth = (robust_problem(noise="frozen", smooth=on) for on in (False, True))
    first, again, through = (given.ask(given.space.clean) for given in (plain, plain, smooth))
    assert torch.equal(first.logits["t"], again.logits["t"])
    part = plain.take(torch.tensor([2]))
    alone = part.ask(part.space.clean, gradient=False).logits["t"]
    torch.testing.assert_close(alone, first.logits["t"][2:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(through.logits["t"], first.logits["t"])
    assert first.gradient is not None
    assert through.gradient is not None
    assert not torch.allclose(through.gradient, first.gradient)


def test_noise_that_is_off_leaves_one_answer() -> None:
    problem = robust_problem(noise="off")
    first, again = (problem.ask(problem.space.clean) for _ in range(2))
    assert torch.equal(first.logits["t"], again.logits["t"])
    sampled = problem.with_draws(1, noise="sample")
    assert not torch.equal(sampled.ask(sampled.space.clean).logits["t"], first.logits["t"])


def test_a_sure_problem_is_broken_where_every_draw_is() -> None:
    model = Small((CT,), (TWO,), hidden=8, noise=1.0)
    plain = Problem(model, studies(model, 64), Threat("linf", {"ct": 0.1}), draws=5, generator=seeded(1))
    sure = Problem(model, studies(model, 64), Threat("linf", {"ct": 0.1}), draws=5, generator=seeded(1), sure=True)
    mean, every = (problem.ask(problem.space.clean, gradient=False) for problem in (plain, sure))
    by_draw = torch.stack([plain.objective.broken(model.tasks, one, plain.batch.targets) for one in every.each])
    assert torch.equal(every.broken, by_draw.all(0))
    assert bool((mean.broken & ~every.broken).any())
    assert torch.equal(sure.broken(every, sure.objective), every.broken)


class Dropping(Small):
    """Dropout that stays on in evaluation, of which no source knows."""

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        return super().forward({name: F.dropout(x, 0.5) for name, x in inputs.items()}, present)


def test_networks_that_are_random_by_themselves_are_found_and_repeat() -> None:
    plain, model = Small((CT,), (TWO,)), Dropping((CT,), (TWO,))
    batch = studies(model)
    assert not is_random(plain, batch.inputs, batch.present)
    assert is_random(model, batch.inputs, batch.present)
    losses = []
    for _ in range(2):
        problem = Problem(model, batch, Threat("linf", {"ct": 0.1}), draws=3, generator=seeded(1))
        torch.rand(1)  # the global generator must not matter
        losses.append(problem.ask(problem.space.clean).loss)
    assert torch.equal(*losses)
    frozen = Problem(model, batch, Threat("linf", {"ct": 0.1}), noise="frozen")
    assert torch.equal(*(frozen.ask(frozen.space.clean).loss for _ in range(2)))
    with pytest.raises(ValueError, match="no noise that can be turned off"):
        Problem(model, batch, Threat("linf", {"ct": 0.1}), noise="off")
    with pytest.raises(ValueError, match="all draws are alike"):
        robust_problem(noise="off", draws=2)
    with pytest.raises(ValueError, match="is not one of"):
        Problem(model, batch, Threat("linf", {"ct": 0.1}), noise="on")  # type: ignore[arg-type]


def test_asking_whether_a_network_is_random_moves_no_numbers_on() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)).train()

    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"t": self.inner(inputs["x"])}

    before = torch.get_rng_state()
    assert is_random(Dropping(), {"x": torch.ones(3, 4)}, {"x": torch.ones(3, dtype=torch.bool)})
    assert torch.equal(torch.get_rng_state(), before)
