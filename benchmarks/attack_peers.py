"""Attacks of foolbox, torchattacks and ART on a network of one image, by the names and budgets of ours.

Each is a function of a ``View`` and a ``Budget`` that returns images (B, C, H, W). Where a library has no such attack,
or not in that norm, ``peers`` does not list it.

torchattacks asks for torchvision, which it does not use; install it with ``pip install --no-deps torchattacks``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.attacks import Problem


@dataclass(frozen=True)
class Budget:
    """What an attack may spend on a study.

    Args:
        steps: Of gradient attacks; of C&W in all.
        step: Length of a step, in radii.
        queries: Of Square and HopSkipJump; of noise the tries.
        neighbours: Of variance tuning.
        classes: Wrong classes of targeted attacks, the likeliest.
        restarts: Starts.
        seed: Of whatever is drawn.
    """

    steps: int = 10
    step: float = 0.25
    queries: int = 500
    neighbours: int = 5
    classes: int = 7
    restarts: int = 1
    seed: int = 0


class OneInput(nn.Module):
    """The attacked network as other libraries want one: from images (B, C, H, W) to logits (B, K).

    ``asked`` counts the images that it was shown.

    Args:
        problem: Studies with one image each and one task with classes.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.net = problem.model
        (self.name,), (self.task,) = problem.space.names, problem.tasks
        self.classes = len(problem.tasks[self.task].classes)
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        images = images.float()  # ART asks in double precision
        present = torch.ones(len(images), dtype=torch.bool, device=images.device)
        logits: Tensor = self.net({self.name: images}, {self.name: present})[self.task]
        # Square of torchattacks writes into its logits.
        return logits.clone()


class View:
    """A problem of one image as other libraries see it.

    Args:
        problem: The studies.
    """

    def __init__(self, problem: Problem) -> None:
        self.net = OneInput(problem).eval()
        self.images: Tensor = problem.batch.inputs[self.net.name]
        self.labels: Tensor = problem.batch.targets[self.net.task]
        self.norm, self.eps = problem.space.threat.norm, float(problem.space.radius[0, 0])

    def art(self) -> Any:
        """Return the network as a classifier of ART."""
        from art.estimators.classification import PyTorchClassifier

        return PyTorchClassifier(
            self.net,
            nn.CrossEntropyLoss(),
            tuple(self.images.shape[1:]),
            self.net.classes,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )


Peer: TypeAlias = Callable[[View, Budget], Tensor]


def peers(attack: str, norm: str) -> dict[str, Peer]:
    """Return library -> its attack of that name and norm.

    >>> sorted(peers("fgsm", "l2"))
    ['art', 'foolbox']
    """
    return dict(_PEERS.get((attack, norm), {}))


def compared() -> list[tuple[str, str]]:
    """Return the attacks and norms that a library has."""
    return list(_PEERS)


def options(attack: str, norm: str, eps: float, budget: Budget) -> dict[str, Any]:
    """Return the options of ours that spend as much."""
    steps: dict[str, Any] = {"steps": budget.steps, "step": budget.step}
    return {
        "bim": steps,
        "pgd": steps | {"restarts": budget.restarts},
        "mim": steps,
        "ni_fgsm": steps,
        "vmi_fgsm": steps | {"neighbours": budget.neighbours},
        "deepfool": {"steps": budget.steps},
        # Theirs weighs in pixels, ours in radii.
        "cw": {"steps": budget.steps, "searches": 1, "constant": 1 / eps**2},
        "apgd_ce": {"steps": budget.steps},
        "apgd_dlr": {"steps": budget.steps},
        "apgd_t": {"steps": budget.steps, "targets": budget.classes},
        "fab": {"steps": budget.steps},
        "fab_t": {"steps": budget.steps, "targets": budget.classes},
        "square": {"queries": budget.queries},
        "hop_skip_jump": {"questions": budget.queries},
        "uniform_noise": {"tries": budget.queries},
    }.get(attack, {})


def _torchattacks(name: str, given: Callable[[View, Budget], dict[str, Any]]) -> Peer:
    def run(view: View, budget: Budget) -> Tensor:
        import torchattacks

        torch.manual_seed(budget.seed)
        attack = getattr(torchattacks, name)(view.net, **given(view, budget))
        found: Tensor = attack(view.images, view.labels)
        return found.detach()

    return run


def _foolbox(name: str, given: Callable[[View, Budget], dict[str, Any]]) -> Peer:
    def run(view: View, budget: Budget) -> Tensor:
        import foolbox

        torch.manual_seed(budget.seed)
        np.random.seed(budget.seed)
        attack = getattr(foolbox.attacks, name)(**given(view, budget))
        model = foolbox.PyTorchModel(view.net, bounds=(0, 1), device=view.images.device)
        found: Tensor = attack(model, view.images, view.labels, epsilons=view.eps)[1]
        return found.detach()

    return run


def _art(name: str, given: Callable[[View, Budget], dict[str, Any]]) -> Peer:
    def run(view: View, budget: Budget) -> Tensor:
        import art.attacks.evasion

        logging.getLogger("art").setLevel(logging.ERROR)
        np.random.seed(budget.seed)
        torch.manual_seed(budget.seed)
        extra = given(view, budget) | {"batch_size": len(view.images)}
        attack = getattr(art.attacks.evasion, name)(view.art(), **extra)
        if hasattr(attack, "verbose"):
            attack.set_params(verbose=False)
        found = attack.generate(view.images.numpy(), view.labels.numpy())
        return torch.from_numpy(found)

    return run


def _eps(view: View, budget: Budget) -> dict[str, Any]:
    return {"eps": view.eps}


def _alpha(view: View, budget: Budget) -> dict[str, Any]:
    return {"eps": view.eps, "alpha": budget.step * view.eps, "steps": budget.steps}


def _relative(view: View, budget: Budget) -> dict[str, Any]:
    return {"rel_stepsize": budget.step, "steps": budget.steps}


def art_norm(view: View) -> dict[str, Any]:
    """Return norm and radius as ART names them."""
    return {"norm": np.inf if view.norm == "linf" else 2, "eps": view.eps}


def _art_steps(view: View, budget: Budget) -> dict[str, Any]:
    return art_norm(view) | {"eps_step": budget.step * view.eps, "max_iter": budget.steps}


def _art_random(view: View, budget: Budget) -> dict[str, Any]:
    return _art_steps(view, budget) | {"num_random_init": budget.restarts}


def _art_apgd(loss: str) -> Callable[[View, Budget], dict[str, Any]]:
    def given(view: View, budget: Budget) -> dict[str, Any]:
        steps = {"eps_step": 2 * view.eps, "max_iter": budget.steps}
        return art_norm(view) | steps | {"nb_random_init": 1, "loss_type": loss}

    return given


def _apgd(view: View, budget: Budget) -> dict[str, Any]:
    norm = {"linf": "Linf", "l2": "L2"}[view.norm]
    return {"norm": norm, "eps": view.eps, "steps": budget.steps, "seed": budget.seed}


def _hops(budget: Budget) -> int:
    """Rounds of HopSkipJump that fit, each of probes, a search for the step and a bisection."""
    left, rounds = budget.queries - 100, 0
    while left > 0:
        rounds += 1
        left -= int(100 * math.sqrt(rounds)) + 22
    return max(rounds - 1, 1)


_LINF: dict[str, dict[str, Peer]] = {
    "fgsm": {
        "torchattacks": _torchattacks("FGSM", _eps),
        "foolbox": _foolbox("LinfFastGradientAttack", lambda view, budget: {}),
        "art": _art("FastGradientMethod", lambda view, budget: art_norm(view)),
    },
    "bim": {
        "torchattacks": _torchattacks("BIM", _alpha),
        "foolbox": _foolbox("LinfBasicIterativeAttack", _relative),
        "art": _art("ProjectedGradientDescentPyTorch", _art_steps),
    },
    "pgd": {
        "torchattacks": _torchattacks("PGD", _alpha),
        "foolbox": _foolbox("LinfPGD", _relative),
        "art": _art("ProjectedGradientDescentPyTorch", _art_random),
    },
    "mim": {
        "torchattacks": _torchattacks("MIFGSM", _alpha),
        "foolbox": _foolbox("LinfMomentumIterativeFastGradientMethod", _relative),
        "art": _art("MomentumIterativeMethod", _art_steps),
    },
    "ni_fgsm": {"torchattacks": _torchattacks("NIFGSM", _alpha)},
    "vmi_fgsm": {
        "torchattacks": _torchattacks("VMIFGSM", lambda view, budget: {**_alpha(view, budget), "N": budget.neighbours})
    },
    "deepfool": {"foolbox": _foolbox("LinfDeepFoolAttack", lambda view, budget: {"steps": budget.steps})},
    "hop_skip_jump": {
        "foolbox": _foolbox("HopSkipJumpAttack", lambda view, budget: _foolbox_hops(view, budget)),
        "art": _art("HopSkipJump", lambda view, budget: _art_hops(view, budget)),
    },
    "uniform_noise": {
        "foolbox": _foolbox("LinfRepeatedAdditiveUniformNoiseAttack", lambda view, budget: {"repeats": budget.queries})
    },
}
_L2: dict[str, dict[str, Peer]] = {
    "fgsm": {
        "foolbox": _foolbox("L2FastGradientAttack", lambda view, budget: {}),
        "art": _art("FastGradientMethod", lambda view, budget: art_norm(view)),
    },
    "bim": {
        "foolbox": _foolbox("L2BasicIterativeAttack", _relative),
        "art": _art("ProjectedGradientDescentPyTorch", _art_steps),
    },
    "pgd": {
        "torchattacks": _torchattacks("PGDL2", _alpha),
        "foolbox": _foolbox("L2PGD", _relative),
        "art": _art("ProjectedGradientDescentPyTorch", _art_random),
    },
    "mim": {
        "foolbox": _foolbox("L2MomentumIterativeFastGradientMethod", _relative),
        "art": _art("MomentumIterativeMethod", _art_steps),
    },
    "deepfool": {
        "torchattacks": _torchattacks("DeepFool", lambda view, budget: {"steps": budget.steps}),
        "foolbox": _foolbox("L2DeepFoolAttack", lambda view, budget: {"steps": budget.steps}),
        "art": _art("DeepFool", lambda view, budget: {"max_iter": budget.steps, "epsilon": 0.02}),
    },
    "cw": {
        "torchattacks": _torchattacks("CW", lambda view, budget: {"steps": budget.steps}),
        "foolbox": _foolbox(
            "L2CarliniWagnerAttack",
            lambda view, budget: {"steps": budget.steps, "binary_search_steps": 1, "initial_const": 1.0},
        ),
        "art": _art(
            "CarliniL2Method",
            lambda view, budget: {"max_iter": budget.steps, "binary_search_steps": 1, "initial_const": 1.0},
        ),
    },
    "hop_skip_jump": _LINF["hop_skip_jump"],
    "uniform_noise": {
        "foolbox": _foolbox("L2RepeatedAdditiveUniformNoiseAttack", lambda view, budget: {"repeats": budget.queries})
    },
}
_BOTH: dict[str, dict[str, Peer]] = {
    "apgd_ce": {
        "torchattacks": _torchattacks("APGD", _apgd),
        "art": _art("AutoProjectedGradientDescent", _art_apgd("cross_entropy")),
    },
    "apgd_dlr": {
        "torchattacks": _torchattacks("APGD", lambda view, budget: {**_apgd(view, budget), "loss": "dlr"}),
        "art": _art("AutoProjectedGradientDescent", _art_apgd("difference_logits_ratio")),
    },
    "apgd_t": {
        "torchattacks": _torchattacks(
            "APGDT", lambda view, budget: {**_apgd(view, budget), "n_classes": budget.classes + 1}
        )
    },
    "fab": {"torchattacks": _torchattacks("FAB", _apgd)},
    "fab_t": {
        "torchattacks": _torchattacks(
            "FAB",
            lambda view, budget: {**_apgd(view, budget), "multi_targeted": True, "n_classes": budget.classes + 1},
        )
    },
    "square": {
        "torchattacks": _torchattacks("Square", lambda view, budget: _square(view, budget)),
        "art": _art("SquareAttack", lambda view, budget: {**art_norm(view), "max_iter": budget.queries}),
    },
}


def _square(view: View, budget: Budget) -> dict[str, Any]:
    norm = {"linf": "Linf", "l2": "L2"}[view.norm]
    return {"norm": norm, "eps": view.eps, "n_queries": budget.queries, "seed": budget.seed}


def _foolbox_hops(view: View, budget: Budget) -> dict[str, Any]:
    return {"steps": _hops(budget), "constraint": view.norm}


def _art_hops(view: View, budget: Budget) -> dict[str, Any]:
    return {
        "norm": np.inf if view.norm == "linf" else 2,
        "max_iter": _hops(budget),
        "max_eval": 10_000,
        "init_eval": 100,
        "init_size": 100,
    }


_PEERS: dict[tuple[str, str], dict[str, Peer]] = {
    **{(attack, "linf"): found for attack, found in (_LINF | _BOTH).items()},
    **{(attack, "l2"): found for attack, found in (_L2 | _BOTH).items()},
}
