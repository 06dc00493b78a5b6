"""The log-odds that are explained, of every kind of task."""

from __future__ import annotations

import pytest
import torch
from explained import CT, FINDING, GRADE, SIGNS, STAGE, network, studies

from mailnet.explain import explain
from mailnet.explain.geometry import MEANS, to_pixels
from mailnet.explain.score import class_probability, class_score, in_unit, predicted
from mailnet.nn.emcam import EMCAM
from mailnet.nn.heads import probabilities
from mailnet.specs import ModalitySpec


def test_scores_are_the_log_odds_of_their_probabilities() -> None:
    torch.manual_seed(0)
    for task in (FINDING, GRADE, SIGNS, STAGE):
        logits = torch.randn(6, task.outputs)
        for target in range(len(task.classes)):
            classes = torch.full((6,), target)
            found = class_probability(task, probabilities(task, logits), classes)
            torch.testing.assert_close(class_score(task, logits, classes), in_unit(found, "log_odds"))
        assert predicted(task, logits).tolist() == probabilities(task, logits).argmax(1).tolist()


def test_what_changes_no_prediction_changes_no_score() -> None:
    logits, classes = torch.randn(6, 3), torch.randint(3, (6,))
    torch.testing.assert_close(class_score(FINDING, logits, classes), class_score(FINDING, logits + 5, classes))


def test_a_middle_grade_is_spoken_for_by_what_raises_the_grade() -> None:
    classes = torch.tensor([0, 1, 2])
    low, high = torch.tensor([[-1.0, -2.0]]).expand(3, -1), torch.tensor([[4.0, 3.0]]).expand(3, -1)
    assert (class_score(STAGE, high, classes) - class_score(STAGE, low, classes)).sign().tolist() == [-1, 1, 1]


def test_a_score_has_a_slope_where_the_network_is_sure() -> None:
    logits = torch.tensor([[60.0, 0.0, -5.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(class_score(FINDING, logits, torch.tensor([0])).sum(), logits)
    torch.testing.assert_close(slope[0, 0], torch.tensor(1.0))


def test_attention_is_the_gates_that_the_network_used() -> None:
    model = network("mail", (CT, ModalitySpec("mr", size=(16, 16))), emcam=2, widths=(8, 12, 16))
    batch = studies(model, 2, absent={"mr": [0]})
    used = []
    modules = [module for module in model.modules() if isinstance(module, EMCAM)]
    for module in modules:
        module.register_forward_hook(lambda _, given, out: used.append((given[0]["mr"], out["mr"])))
    found = explain(model, batch, "grade", method="emcam")
    assert [len(found.stages[name]) for name in ("ct", "mr")] == [2, 2]
    assert not found.maps["mr"][0].any()
    assert not [module for module in modules if "gates" in vars(module)]
    # a feature of the one study that has the modality tells a channel's gate; a cell's map that of all channels
    for (before, after), stage in zip(used, found.stages["mr"], strict=True):
        channel = int((before[0] != 0).flatten(1).sum(1).argmax())
        gates, known = after[0, channel] / before[0, channel], before[0, channel] != 0
        cells = to_pixels(gates[None], (16, 16), MEANS)[0]
        inside = to_pixels(known[None].float(), (16, 16), MEANS)[0] == 1
        ratio = (1 + stage[1][inside]) / cells[inside]
        torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.maps["ct"], torch.stack(found.stages["ct"]).mean(0))


def test_attention_without_a_map_is_refused() -> None:
    model = network("mail", (CT,), emcam=1, spatial_attention=False)
    with pytest.raises(ValueError, match="gates channels and no places"):
        explain(model, studies(model), "grade", method="emcam")
