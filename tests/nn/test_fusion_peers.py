"""Fusion networks of other authors: what all of them keep, and the equations of each against plain computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mailnet.nn import create_model
from mailnet.nn.peers.drifa import MFA, MIFA
from mailnet.nn.peers.gmu import GMU
from mailnet.nn.peers.low_rank import LowRankTensor
from mailnet.nn.peers.mbt import exchange
from mailnet.nn.peers.mmtm import MMTM
from mailnet.nn.peers.vit import Attention, Block, PatchEmbedding, Transformer
from mailnet.nn.presence import Presence, resolve_presence
from mailnet.specs import ModalitySpec, TaskSpec

NAMES = ("drifa_net", "gated_multimodal", "low_rank_fusion", "mbt", "mmtm")
SPECS = {
    "ct": ModalitySpec("ct", size=(28, 28)),
    "photo": ModalitySpec("photo", channels=3, size=(40, 24)),
    "pet": ModalitySpec("pet", "volume", size=(6, 16, 16)),
    "clinic": ModalitySpec("clinic", "tabular", channels=5),
}
SHAPES = {"ct": (1, 28, 28), "photo": (3, 40, 24), "pet": (1, 6, 16, 16), "clinic": (5,)}
TASKS = {
    "tumour": TaskSpec("tumour", ("no", "yes"), "binary"),
    "kind": TaskSpec("kind", ("a", "b", "c")),
    "signs": TaskSpec("signs", ("p", "q"), "multilabel"),
    "grade": TaskSpec("grade", ("1", "2", "3", "4"), "ordinal"),
}
GROUPS = [
    ("ct",),
    ("pet",),
    ("clinic",),
    ("ct", "photo"),
    ("ct", "clinic"),
    ("pet", "clinic"),
    ("ct", "photo", "clinic"),
    tuple(SPECS),
]


def make(name: str, names: tuple[str, ...] = tuple(SPECS), **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model(
        name, {modality: SPECS[modality] for modality in names}, TASKS, **{"widths": (16, 32), **options}
    )


def batch(names: tuple[str, ...] = tuple(SPECS), rows: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.rand(rows, *SHAPES[name]) for name in names}


def settle(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """Give a network's batch norms statistics and its biases values of their own, and set it to evaluation."""
    model.train()
    for _ in range(3):
        model(batch(names, rows=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def everyone(names: list[str], rows: int) -> Presence:
    return Presence(
        {name: torch.ones(rows, dtype=torch.bool) for name in names}, dict.fromkeys(names, torch.empty(0)), False
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("group", GROUPS, ids="+".join)
@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_gradients(name: str, group: tuple[str, ...]) -> None:
    model = make(name, group)
    logits = model(batch(group))
    assert {task: tuple(value.shape) for task, value in logits.items()} == {
        "tumour": (4, 2),
        "kind": (4, 3),
        "signs": (4, 2),
        "grade": (4, 3),
    }
    passes = [logits]
    if len(group) > 1:  # tokens stand in where a modality is absent
        passes += [model({modality: value}) for modality, value in batch(group).items()]
    sum(value.square().sum() for logits in passes for value in logits.values()).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not without


@pytest.mark.parametrize("name", NAMES)
def test_a_study_depends_on_nothing_but_what_it_has(name: str) -> None:
    model = settle(make(name), tuple(SPECS))
    inputs = batch()
    present = {
        "ct": torch.tensor([True, False, True, False]),
        "photo": torch.tensor([True, True, False, False]),
        "pet": torch.tensor([True, True, True, False]),
    }
    logits = model(inputs, present)
    garbage = {
        k: torch.where(present[k].reshape(-1, *(1,) * (v.ndim - 1)), v, 1.0) if k in present else v
        for k, v in inputs.items()
    }
    again = model(garbage, present)
    for task, value in logits.items():
        torch.testing.assert_close(again[task], value, rtol=0, atol=0)
        assert not torch.allclose(value[0], value[1], rtol=1e-3)
    for row in range(4):
        alone = {k: v[row : row + 1] for k, v in inputs.items() if k not in present or present[k][row]}
        for task, value in model(alone).items():
            torch.testing.assert_close(value[0], logits[task][row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_modality_reaches_every_task(name: str) -> None:
    model = settle(make(name), tuple(SPECS))
    inputs = batch()
    for modality in SPECS:
        other = model({**inputs, modality: 1 - inputs[modality]})
        for task, value in model(inputs).items():
            assert not torch.equal(value, other[task]), (modality, task)


@pytest.mark.parametrize("group", [("ct", "clinic"), ("ct", "photo", "clinic")], ids="+".join)
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_modalities_makes_no_difference(name: str, group: tuple[str, ...]) -> None:
    model = settle(make(name, group), group)
    turned = make(name, group[1:] + group[:1]).eval()
    if name == "gated_multimodal" and len(group) == 2:  # the one gate z belongs to the first; 1 - z is the other's
        state = {
            key.replace("fusion.gates.ct_", "fusion.gates.clinic_"): -value if "fusion.gates" in key else value
            for key, value in model.state_dict().items()
        }
    else:
        state = model.state_dict()
    turned.load_state_dict(state)
    inputs = batch(group)
    present = {"ct": torch.tensor([True, False, True, True])}
    for task, value in model(inputs, present).items():
        torch.testing.assert_close(turned(inputs, present)[task], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_exported_network_gives_the_same(name: str) -> None:
    group = ("ct", "photo", "clinic")
    model = settle(make(name, group), group)
    inputs = batch(group)
    present = {"ct": torch.tensor([True, False, True, True]), "clinic": torch.tensor([True, True, False, True])}
    program = torch.export.export(model, (inputs, present))
    for task, value in model(inputs, present).items():
        torch.testing.assert_close(program.module()(inputs, present)[task], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_trains(name: str) -> None:
    model = make(name)
    present = {"ct": torch.tensor([True, False, True, True]), "clinic": torch.tensor([False, True, False, True])}
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch(), present)
    loss = sum(value.float().square().sum() for value in logits.values())
    loss.backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments(name: str) -> None:
    with pytest.raises(ValueError, match="nano, tiny, small, base"):
        make(name, widths=None, width="huge")
    model = make(name, ("ct",))
    with pytest.raises(ValueError, match=r"modality 'ct': values must lie in \[0, 1\]"):
        model({"ct": torch.full((2, 1, 28, 28), 7.0)})
    with pytest.raises(ValueError, match=r"modality 'ct': expected a tensor \(B, 1, H, W\)"):
        model({"ct": torch.rand(2, 3, 28, 28)})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("drifa_net", {"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ("low_rank_fusion", {"rank": 0}, "rank must be at least 1"),
        ("mmtm", {"modules": 0}, "modules must be at least 1"),
        ("mmtm", {"ratio": 0}, "ratio must be at least 1"),
        ("mbt", {"bottlenecks": 0}, "bottlenecks must be at least 1"),
        ("mbt", {"depth": 0}, "depth must be at least 1"),
        ("mbt", {"depth": 2, "fusion_start": 2}, "below the depth, 2, got 2"),
        ("mbt", {"patch": 0}, "modality 'ct': patch needs 2 positive numbers"),
        ("mbt", {"widths": (8, 200)}, "below 128 or a multiple of 64, got 200"),
    ],
)
def test_numbers_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **options)


# DRIFA-Net


def pooled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = x.reshape(*x.shape[:2], -1)
    return flat.min(-1), flat.mean(-1), flat.max(-1)


def pointwise(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution or linear layer with a sigmoid, on (B, C, ...)."""
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    y = np.einsum("oc,bc...->bo...", weight.reshape(weight.shape[:2]), x)
    return sigmoid(y + bias.reshape(-1, *(1,) * (x.ndim - 2)))


def shuffled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module.double()


@pytest.mark.parametrize("dims", [2, 3])
def test_multi_branch_fusion_attention(dims: int) -> None:
    module = shuffled(MFA(dims, 6))
    assert isinstance(module, MFA)
    x = torch.randn(2, 6, *(3, 4, 5)[:dims], dtype=torch.double)
    a = x.numpy()
    g1 = pointwise(module.hierarchical[0], a)
    g2 = pointwise(module.hierarchical[1], g1)
    g3 = pointwise(module.hierarchical[2], g1 + g2)
    g4 = pointwise(module.hierarchical[3], g3)
    pools = np.concatenate([pooled(g1)[1] + pooled(g2)[2], pooled(g3)[1] + pooled(g4)[2]], 1)
    hierarchical = pointwise(module.merge, pools)
    l1 = pooled(pointwise(module.local, a))[1]
    local = l1 + pointwise(module.refine, l1)
    scales = {key: value.detach().numpy() for key, value in module.scales.named_parameters()}
    gate = (
        sigmoid(hierarchical * scales["global_scale"] + local * scales["local_scale"]) * module.alpha.detach().numpy()
    )
    expected = a * gate.reshape(2, 6, *(1,) * dims)
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-10)


def test_multimodal_information_fusion_attention() -> None:
    names = ["ct", "pet", "clinic"]
    module = shuffled(MIFA({name: SPECS[name] for name in names}, 6))
    assert isinstance(module, MIFA)
    shapes = {"ct": (4, 5), "pet": (2, 3, 2), "clinic": ()}
    x = {name: torch.randn(2, 6, *shape, dtype=torch.double) for name, shape in shapes.items()}
    arrays = {name: value.numpy() for name, value in x.items()}
    features = {name: pooled(a) for name, a in arrays.items()}
    local = {name: pooled(pointwise(module.local[f"{name}_"], a)) for name, a in arrays.items()}
    from_global = sum(pointwise(module.read, sum(features[name][k] for name in names)) for k in range(3))
    from_local = sum(local[name][k] for name in names for k in range(3))
    scales = {key: value.detach().numpy() for key, value in module.scales.named_parameters()}
    gate = sigmoid(from_global * scales["global_scale"] + from_local * scales["local_scale"])
    for name, gated in module(x, everyone(names, 2)).items():
        alpha = module.alphas[f"{name}_"].detach().numpy()
        expected = arrays[name] * (gate * alpha).reshape(2, 6, *(1,) * len(shapes[name]))
        np.testing.assert_allclose(gated.detach().numpy(), expected, rtol=1e-10)


def test_drifa_net_has_the_layers_of_the_authors_program() -> None:
    """Their two-image network at full width, counted layer by layer from the program (Keras counts no less)."""

    def dense(inputs: int, outputs: int) -> int:
        return (inputs + 1) * outputs

    def mfa(c: int) -> int:
        return 6 * dense(c, c) + dense(2 * c, c) + 1 + c + c

    def mifa(c: int) -> int:
        return 3 * dense(c, c) + 1 + c + 2 * c

    def rra(before: int, c: int) -> int:
        shortcut = dense(before, c) + 2 * c if before != c else 0
        return dense(9 * before, c) + dense(9 * c, c) + 2 * mfa(c) + 2 * 2 * c + shortcut

    branch = dense(49 * 3, 64) + mfa(64) + 2 * 64
    fusion = 0
    before = 64
    for c in (64, 128, 256, 512):
        branch += rra(before, c) + rra(c, c) + mfa(c) * (1 if c == 512 else 2)
        fusion += 2 * mifa(c)
        before = c
    heads = dense(1024, 5) + dense(1024, 7)
    spec = {name: ModalitySpec(name, channels=3, size=(128, 128)) for name in ("mri", "ct")}
    model = create_model("drifa_net", spec, {"a": 5, "b": 7}, width="small")
    tokens = 2 * 512  # ours: they have no absent modality
    assert sum(p.numel() for p in model.parameters()) == 2 * branch + fusion + heads + tokens


def test_drifa_net_drops_in_training_only() -> None:
    model, inputs = make("drifa_net", ("ct",)), batch(("ct",))
    assert not torch.equal(model(inputs)["kind"], model(inputs)["kind"])
    model.eval()
    torch.testing.assert_close(model(inputs)["kind"], model(inputs)["kind"], rtol=0, atol=0)


# MMTM


def test_transfer_module() -> None:
    sizes = {"ct": 8, "clinic": 4}
    module = shuffled(MMTM(sizes, ratio=4))
    assert isinstance(module, MMTM)
    x = {"ct": torch.randn(2, 8, 3, 5, dtype=torch.double), "clinic": torch.randn(2, 4, dtype=torch.double)}
    weight = np.concatenate([module.squeeze.blocks[f"{name}_"].weight.detach().numpy() for name in sizes], 1)
    assert weight.shape == (3, 12)  # a quarter of the concatenation
    squeezed = np.concatenate([x["ct"].numpy().mean((2, 3)), x["clinic"].numpy()], 1)
    assert module.squeeze.bias is not None
    joint = np.maximum(squeezed @ weight.T + module.squeeze.bias.detach().numpy(), 0)
    for name, gated in module(x, everyone(list(sizes), 2)).items():
        excite, bias = (p.detach().numpy() for p in module.excite[f"{name}_"].parameters())
        gate = 2 * sigmoid(joint @ excite.T + bias)
        expected = x[name].numpy() * gate.reshape(2, -1, *(1,) * (x[name].ndim - 2))
        np.testing.assert_allclose(gated.detach().numpy(), expected, rtol=1e-10)


def test_transfer_modules_follow_the_last_stages() -> None:
    def joints(**options: Any) -> list[int]:
        model = create_model("mmtm", {"a": 1, "b": 1}, {"t": 2}, **options)
        return [fusion.squeeze.bias.numel() for fusion in model.fusions]  # type: ignore[union-attr]

    assert joints(width="tiny") == [2 * 64 // 4, 2 * 128 // 4, 2 * 256 // 4]
    assert joints(width="tiny", modules=1, ratio=2) == [256]
    assert joints(widths=(8, 16)) == [4, 8]


# Gated multimodal units


@pytest.mark.parametrize("count", [1, 2, 3])
def test_gated_multimodal_unit(count: int) -> None:
    names = ["v", "t", "s"][:count]
    sizes = dict(zip(names, (3, 5, 4), strict=False))
    module = shuffled(GMU(sizes, 6))
    assert isinstance(module, GMU)
    x = {name: torch.randn(2, size, dtype=torch.double) for name, size in sizes.items()}
    joint = np.concatenate([value.numpy() for value in x.values()], 1)
    hidden = [np.tanh(x[name].numpy() @ module.transform[f"{name}_"].weight.detach().numpy().T) for name in names]
    gates = []
    for gate in module.gates.values():
        weight = np.concatenate([gate.blocks[f"{name}_"].weight.detach().numpy() for name in names], 1)  # type: ignore[index]
        gates.append(sigmoid(joint @ weight.T))
    if count == 2:
        (z,) = gates
        expected = z * hidden[0] + (1 - z) * hidden[1]
    else:
        assert len(gates) == count
        expected = sum(z * h for z, h in zip(gates, hidden, strict=True))
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-10)


# Low-rank fusion


@pytest.mark.parametrize("sizes", [(3,), (3, 4), (3, 2, 4)])
def test_low_rank_fusion_is_a_product_with_the_tensor(sizes: tuple[int, ...]) -> None:
    """The outer product of all z_m = [x_m, 1], times a weight tensor that is a sum of outer products."""
    names = [f"m{k}" for k in range(len(sizes))]
    module = shuffled(LowRankTensor(dict(zip(names, sizes, strict=True)), 5, rank=2))
    assert isinstance(module, LowRankTensor)
    x = {name: torch.randn(2, size, dtype=torch.double) for name, size in zip(names, sizes, strict=True)}
    weight = np.zeros((*(size + 1 for size in sizes), 5))
    for term in range(2):
        for output in range(5):
            outer: Any = 1.0
            for name in names:
                outer = np.multiply.outer(outer, module.factors[f"{name}_"][term, :, output].detach().numpy())
            weight[..., output] += outer
    for row in range(2):
        tensor: Any = 1.0
        for name in names:
            tensor = np.multiply.outer(tensor, np.append(x[name][row].numpy(), 1.0))
        expected = np.tensordot(tensor, weight, axes=len(sizes))
        np.testing.assert_allclose(module(x)[row].detach().numpy(), expected, rtol=1e-10)


# Vision transformer and bottlenecks


@pytest.mark.parametrize(("width", "published"), [(192, 5_717_416), (384, 22_050_664)])
def test_published_sizes_of_vision_transformers(width: int, published: int) -> None:
    spec = ModalitySpec("x", channels=3, size=(224, 224))
    with torch.device("meta"):
        network = nn.Sequential(Transformer(PatchEmbedding(spec, width, (16, 16)), width, 12), nn.Linear(width, 1000))
    assert sum(p.numel() for p in network.parameters()) == published


def test_attention_and_block_against_plain_computation() -> None:
    block = shuffled(Block(6, heads=2))
    assert isinstance(block, Block)
    x = torch.randn(2, 5, 6, dtype=torch.double)

    def layer(module: nn.Module, value: np.ndarray) -> np.ndarray:
        weight, bias = (p.detach().numpy() for p in module.parameters())
        return np.asarray(value @ weight.T + bias)

    def normalised(module: nn.Module, value: np.ndarray) -> np.ndarray:
        weight, bias = (p.detach().numpy() for p in module.parameters())
        centred = value - value.mean(-1, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * weight + bias)

    def attended(module: Attention, value: np.ndarray) -> np.ndarray:
        q, k, v = np.split(layer(module.qkv, value), 3, axis=-1)
        heads = []
        for part in (slice(0, 3), slice(3, 6)):
            scores = np.exp(q[..., part] @ k[..., part].swapaxes(1, 2) / math.sqrt(3))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
        return layer(module.out, np.concatenate(heads, -1))

    a = x.numpy()
    a = a + attended(block.attention, normalised(block.norm1, a))
    hidden = layer(block.mlp[0], normalised(block.norm2, a))
    gelu = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
    np.testing.assert_allclose(block(x).detach().numpy(), a + layer(block.mlp[2], gelu), rtol=1e-9)


def test_patches_are_cut_in_place() -> None:
    """Token 1 + i is the projection of patch i in reading order; a size that no patch divides is padded by the mean."""
    spec = ModalitySpec("x", channels=2, size=(5, 6), mean=(0.2, 0.4), std=(0.5, 0.25))
    embedding = PatchEmbedding(spec, 3, (2, 3))
    assert embedding.grid == (3, 2)
    x = torch.rand(1, 2, 5, 6)
    padded = np.zeros((2, 6, 6), dtype=np.float32)
    padded[:, :5] = (x[0].numpy() - np.array([0.2, 0.4]).reshape(2, 1, 1)) / np.array([0.5, 0.25]).reshape(2, 1, 1)
    weight, bias = (p.detach().numpy() for p in embedding.project.parameters())
    tokens, position = embedding(x)[0].detach().numpy(), embedding.position[0].detach().numpy()
    for i in range(6):
        top, left = 2 * (i // 2), 3 * (i % 2)
        patch = padded[:, top : top + 2, left : left + 3]
        expected = (weight * patch).sum((1, 2, 3)) + bias + position[1 + i]
        np.testing.assert_allclose(tokens[1 + i], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tokens[0], embedding.cls[0, 0].detach().numpy() + position[0], rtol=1e-6)


def test_another_image_size_keeps_the_places_of_positions() -> None:
    embedding = PatchEmbedding(ModalitySpec("x", size=(8, 8)), 2, (4, 4))
    with torch.no_grad():
        for parameter in (embedding.project.weight, embedding.project.bias, embedding.cls):
            parameter.zero_()
        embedding.position[0, 1:, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])  # the row
        embedding.position[0, 1:, 1] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # the column
    tokens = embedding(torch.rand(1, 1, 16, 12))
    assert tokens.shape == (1, 1 + 4 * 3, 2)
    rows, columns = tokens[0, 1:].reshape(4, 3, 2).unbind(-1)
    torch.testing.assert_close(rows[:, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    torch.testing.assert_close(columns[0], torch.tensor([0.0, 0.5, 1.0]))


def test_bottleneck_exchange() -> None:
    """A block sees its own tokens and the bottleneck; the new bottleneck is a study's mean over what it has."""
    names = ["ct", "pet"]
    blocks = {name: shuffled(Block(6, heads=1)) for name in names}
    masks = {"ct": torch.tensor([True, True, False]), "pet": torch.tensor([True, False, True])}
    presence = Presence(masks, dict.fromkeys(names, torch.empty(0)), dense=False)
    x = {name: torch.randn(2, length, 6, dtype=torch.double) for name, length in (("ct", 3), ("pet", 5))}
    bottleneck = torch.randn(3, 2, 6, dtype=torch.double)
    tokens, mixed = exchange(blocks, x, bottleneck, presence)
    own = {"ct": [0, 1], "pet": [0, 2]}
    seen: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    for name, rows in own.items():
        for place, row in enumerate(rows):
            length = x[name].shape[1]
            alone = blocks[name](torch.cat([x[name][place], bottleneck[row]])[None])[0]
            torch.testing.assert_close(tokens[name][place], alone[:length])
            seen[row].append(alone[length:])
    for row, parts in seen.items():
        torch.testing.assert_close(mixed[row], torch.stack(parts).mean(0))


def test_bottleneck_transformer_averages_the_logits() -> None:
    """Where nothing is exchanged, the logits of two modalities are the mean of those of each alone."""
    group = ("ct", "clinic")
    model = settle(make("mbt", group, depth=1), group)
    inputs = batch(group)
    model.transformers["ct_"].blocks[0].attention.out.weight.data.zero_()  # type: ignore[index, union-attr]
    model.transformers["clinic_"].blocks[0].attention.out.weight.data.zero_()  # type: ignore[index, union-attr]
    alone = [model({name: value}) for name, value in inputs.items()]
    for task, value in model(inputs).items():
        torch.testing.assert_close(value, (alone[0][task] + alone[1][task]) / 2, rtol=1e-5, atol=1e-6)


def test_exchange_starts_in_the_middle_and_passes_through_the_bottleneck() -> None:
    group = ("ct", "photo")
    model = settle(make("mbt", group, depth=4), group)
    assert model.fusion_start == 2
    inputs = batch(group)
    calls: list[int] = []
    for block in model.transformers["ct_"].blocks:  # type: ignore[union-attr, index]
        block.register_forward_hook(lambda module, args, output: calls.append(args[0].shape[1]))
    model(inputs)
    own = 1 + 7 * 7  # 28 pixels in patches of 4
    assert calls == [own, own, own + 4, own + 4]


def test_one_modality_needs_no_presence() -> None:
    inputs = {"ct": torch.rand(2, 1, 28, 28)}
    presence = resolve_presence({"ct": SPECS["ct"]}, inputs, None, training=False)
    module = MMTM({"ct": 4}, ratio=4)
    assert module({"ct": torch.rand(2, 4, 3, 3)}, presence)["ct"].shape == (2, 4, 3, 3)
