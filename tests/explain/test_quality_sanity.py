"""A method that does not look at the network fails the randomisation test, one that does passes."""

import pytest
import torch
from torch import Tensor, nn

from mailnet.explain import Explanation
from mailnet.explain.quality import edge_map, randomisation_test, rank_correlation, structural_similarity
from mailnet.explain.quality.randomise import copied, layers_from_output, randomise
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.layers import channels_last
from mailnet.nn.noise import get_noise, set_noise
from mailnet.specs import ModalitySpec

SIZE = 16
B = 6


def network(name: str = "mail") -> nn.Module:
    torch.manual_seed(0)
    modalities = {"a": ModalitySpec("a", size=(SIZE, SIZE)), "b": ModalitySpec("b", size=(SIZE, SIZE))}
    return create_model(name, modalities, {"t": 2}, width="nano").eval()


def studies() -> Batch:
    generator = torch.Generator().manual_seed(0)
    here = torch.ones(B, dtype=torch.bool)
    return Batch({n: torch.rand(B, 1, SIZE, SIZE, generator=generator) for n in "ab"}, {n: here for n in "ab"})


def gradients(model: nn.Module, batch: Batch, target: Tensor | None) -> Explanation:
    inputs = {name: x.clone().requires_grad_() for name, x in batch.inputs.items()}
    logits = model(inputs, batch.present)["t"]
    target = logits.argmax(1) if target is None else target
    found = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), list(inputs.values()))
    return Explanation("t", target, "gradients", {n: g.sum(1) for n, g in zip(inputs, found, strict=True)}, signed=True)


def edges(model: nn.Module, batch: Batch, target: Tensor | None) -> Explanation:
    chosen = torch.zeros(B, dtype=torch.long) if target is None else target
    return Explanation("t", chosen, "edges", {name: edge_map(x) for name, x in batch.inputs.items()})


def test_gradients_change_with_the_network() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = randomisation_test(model, studies(), gradients, stages=3)
    assert found.stages[:2] == ["none", "heads"]
    assert len(found.stages) == len(found.shares) == len(found.rank) == len(found.ssim) == 4
    torch.testing.assert_close(found.rank[0], torch.ones(B, dtype=torch.float64))
    torch.testing.assert_close(found.ssim[0], torch.ones(B, dtype=torch.float64))
    assert found.shares[0] == 0
    assert found.shares[-1] == pytest.approx(1)
    assert found.shares == sorted(found.shares)
    assert found.rank[-1].abs().max() < 0.5
    assert found.passed()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    lines = found.as_dict()
    assert lines["passed"] is True
    assert lines["stages"][0]["rank_correlation"] == pytest.approx(1)


def test_edges_do_not_and_fail() -> None:
    found = randomisation_test(network(), studies(), edges, stages=2)
    assert found.rank.min() > 0.999
    assert not found.passed()


def test_what_a_study_lacks_is_not_compared() -> None:
    """Maps of the modality that is there are unlike; zeros of the other would make them alike by halves."""
    batch = studies()
    lacks = Batch(batch.inputs, {"a": batch.present["a"], "b": torch.arange(B) < 2})
    shown = iter(torch.rand(4, B, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))

    def unlike(model: nn.Module, batch: Batch, target: Tensor | None) -> Explanation:
        here = batch.present["b"].view(-1, 1, 1)
        values = next(shown)
        return Explanation("t", torch.zeros(B, dtype=torch.long), "made up", {"a": values, "b": values * here})

    found = randomisation_test(network(), lacks, unlike, stages=2)
    assert found.rank.abs().max() < 0.2
    assert found.ssim[:, 2:].max() < 0.3


def test_a_random_network_is_copied_with_its_generator() -> None:
    model = network("robust_mail")
    generator = torch.Generator().manual_seed(3)
    set_noise(model, "sample", generator=generator)
    torch.rand(5, generator=generator)
    before = generator.get_state()
    other = copied(model)
    source = get_noise(other)
    assert source is not None
    assert source.generator is not None
    assert source is not get_noise(model)
    assert next(other.parameters()) is not next(model.parameters())
    batch = studies()
    layers_from_output(other, batch)
    assert torch.equal(generator.get_state(), before), "the copy draws numbers of its own"
    source.generator.set_state(before)
    torch.testing.assert_close(other(batch.inputs, batch.present), model(batch.inputs, batch.present))


def test_layers_come_from_the_heads_down_and_none_is_forgotten() -> None:
    model = network()
    heads, below = layers_from_output(model, studies())
    # The tokens of absent modalities are never called: with the heads they are the last that a study meets.
    assert {name.partition(".")[0] for name in heads} == {"heads", "tokens"}
    own = {name for name, m in model.named_modules() if list(m.parameters(recurse=False))}
    assert set(heads) | set(below) == own
    assert len(heads) + len(below) == len(own)
    names = [name for name in below if "trunk" in name or "stem" in name]
    assert "stem" in names[-1]


def test_layers_that_a_faster_form_does_not_call_have_their_places() -> None:
    modalities = {name: ModalitySpec(name, size=(SIZE, SIZE)) for name in "ab"}
    model = channels_last(create_model("mail_reference", modalities, {"t": 2}, widths=(16,)).eval())
    _, below = layers_from_output(model, studies())
    unit = [name.rpartition(".")[2] for name in below if name.startswith("trunks.0.erlas.0.emila1.")]
    assert unit[-5:] == ["fuse_bn", "fuse", "dwc5", "dwc3", "gpc"]


def test_layers_of_a_plain_network_are_reversed() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(4, 4)

        def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"t": self.last(self.first(inputs["a"]))}

    batch = Batch({"a": torch.rand(2, 4)}, {"a": torch.ones(2, dtype=torch.bool)})
    assert layers_from_output(Plain(), batch) == [["last"], ["first"]]


def test_shuffling_keeps_the_numbers_and_measures_statistics_anew() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"t": self.norm(self.conv(inputs["a"])).mean((2, 3))}

    model = Normed().eval()
    batch = Batch({"a": torch.rand(3, 1, 8, 8)}, {"a": torch.ones(3, dtype=torch.bool)})
    before = model.conv.weight.detach().clone()
    randomise(model, ["conv", "norm"], batch, torch.Generator().manual_seed(0))
    assert not torch.equal(model.conv.weight, before)
    assert torch.equal(model.conv.weight.flatten().sort().values, before.flatten().sort().values)
    inside = model.conv(batch.inputs["a"]).detach()
    torch.testing.assert_close(model.norm.running_mean, inside.mean((0, 2, 3)))
    torch.testing.assert_close(model.norm.running_var, inside.var((0, 2, 3)))
    assert not model.norm.training


def explanation(*maps: Tensor) -> Explanation:
    named = dict(zip("ab", maps, strict=False))
    return Explanation("t", torch.zeros(len(maps[0]), dtype=torch.long), "made up", named)


def test_similarity_of_constants_and_of_signs() -> None:
    values = torch.randn(2, 9, 9)
    assert rank_correlation(explanation(values), explanation(-values)).tolist() == pytest.approx([1, 1])
    assert structural_similarity(explanation(values), explanation(-3 * values)).tolist() == pytest.approx([1, 1])
    blank = torch.zeros(2, 9, 9)
    assert rank_correlation(explanation(blank), explanation(blank)).tolist() == [1, 1]
    assert rank_correlation(explanation(values), explanation(blank)).tolist() == [0, 0]


def test_structural_similarity_of_two_even_maps_is_that_of_their_means() -> None:
    # Each study is brought to a highest value of 1 over both modalities, which the second one holds.
    first = explanation(torch.full((1, 9, 9), 0.2), torch.ones(1, 9, 9))
    second = explanation(torch.full((1, 9, 9), 0.6), torch.ones(1, 9, 9))
    c = 0.01**2
    wanted = (2 * 0.2 * 0.6 + c) / (0.2**2 + 0.6**2 + c)
    assert structural_similarity(first, second)[0] == pytest.approx((wanted + 1) / 2)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="fit"):
        rank_correlation(explanation(torch.rand(2, 4, 4)), explanation(torch.rand(2, 5, 5)))
    with pytest.raises(ValueError, match="stages"):
        randomisation_test(network(), studies(), edges, stages=1)
    with pytest.raises(ValueError, match="training"):
        randomisation_test(network().train(), studies(), edges)
