"""Encoders, the two branches, and one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from groundwork.errors import InputError
from training.config import LossSettings, ModelSettings, OptimiserSettings
from training.loop.monitors import collapse_monitors
from training.loop.steps import ViewPair, make_optimiser, set_learning_rate, training_step
from training.network.encoders import first_layer, make_encoder, pooled_layers, weight_layers
from training.network.siamese import SiameseNetwork, update_momentum_branch
from training.schedules import ema_momentum, learning_rate

VIT, RESNET = "vit_tiny_patch16_224", "resnet18"


def settings(encoder: str = VIT, **changes: object) -> ModelSettings:
    values = {"encoder": encoder, "hidden": 32, "output": 16}
    values |= {"token_drop": 0.5 if encoder == VIT else 0.0}
    return ModelSettings.model_validate(values | changes)


def pair(num: int = 6, bands: int = 13, size: int = 32, seed: int = 0) -> ViewPair:
    generator = torch.Generator().manual_seed(seed)
    views = torch.rand(2, num, bands, size, size, generator=generator)
    label = (torch.rand(2, num, 9, generator=generator) < 0.5).float()
    known = torch.ones(2, num, dtype=torch.bool)
    return ViewPair(*views, *label, *known)


@pytest.mark.parametrize("encoder", [VIT, RESNET])
@pytest.mark.parametrize("bands", [2, 12, 13, 15])
@pytest.mark.parametrize("size", [32, 48])
def test_encoders_take_any_bands_and_size(encoder: str, bands: int, size: int) -> None:
    model = make_encoder(encoder, num_bands=bands, image_size=size).eval()
    found = model(torch.rand(2, bands, size, size))
    assert found.shape == (2, model.num_features)
    assert first_layer(model).in_channels == bands


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("resnet5", {}, "is no model of timm.*did you mean"),
        (RESNET, {"token_drop": 0.5}, "has no patch tokens to drop"),
        (VIT, {"initialise": "absent.pth"}, "is no file"),
    ],
)
def test_wrong_encoders_are_one_sentence(name: str, changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_encoder(name, num_bands=13, image_size=32, **changes)


@pytest.mark.parametrize("policy", ["random", "inflate"])
def test_a_local_file_initialises_all_but_the_new_bands(tmp_path: Path, policy: str) -> None:
    torch.manual_seed(0)
    three = make_encoder(VIT, num_bands=3, image_size=32)
    file = tmp_path / "three.pth"
    torch.save(three.state_dict(), file)
    torch.manual_seed(1)
    model = make_encoder(
        VIT, num_bands=13, image_size=32, initialise=str(file), patch_embedding=policy
    )
    for name, value in model.state_dict().items():
        if not name.startswith("patch_embed"):
            torch.testing.assert_close(value, three.state_dict()[name])
    weight, old = first_layer(model).weight, first_layer(three).weight
    repeated = torch.cat([old] * 5, dim=1)[:, :13] * (3 / 13)
    assert torch.allclose(weight, repeated) == (policy == "inflate")


def test_tokens_are_dropped_on_the_base_branch_only() -> None:
    network = SiameseNetwork(settings(), 13, 32).train()
    seen: dict[str, int] = {}
    for name, encoder in (("base", network.base_encoder), ("momentum", network.momentum_encoder)):
        encoder.blocks[0].register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0].shape[1]})
        )
    network(*torch.rand(2, 4, 13, 32, 32))
    assert seen == {"base": 1 + 2, "momentum": 1 + 4}


def test_gradients_flow_only_into_the_base_branch() -> None:
    network = SiameseNetwork(settings(), 13, 32).train()
    optimiser = make_optimiser(network, OptimiserSettings(), fused=False)
    set_learning_rate(optimiser, 0.0)
    training_step(network, [pair()], optimiser, LossSettings())
    for name, parameter in network.named_parameters():
        if name.startswith("momentum"):
            assert parameter.grad is None
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name


def test_momentum_branch_follows_per_step_and_copies_buffers() -> None:
    network = SiameseNetwork(settings(RESNET), 13, 32).train()
    before = {n: p.clone() for n, p in network.momentum_encoder.named_parameters()}
    with torch.no_grad():
        for parameter in network.base_encoder.parameters():
            parameter.add_(1.0)
        network.base_encoder.bn1.running_mean.fill_(3.0)
    update_momentum_branch(network, 0.9)
    for name, parameter in network.momentum_encoder.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.1)
    assert (network.momentum_encoder.bn1.running_mean == 3.0).all()


@pytest.mark.parametrize("encoder", [VIT, RESNET])
def test_steps_lower_the_loss(encoder: str) -> None:
    torch.manual_seed(0)
    network = SiameseNetwork(settings(encoder, token_drop=0.0), 13, 32).train()
    optimiser = make_optimiser(network, OptimiserSettings(weight_decay=0.0), fused=False)
    set_learning_rate(optimiser, 1e-3)
    batch = pair(8)
    losses = []
    for _ in range(12):
        terms, _ = training_step(network, [batch], optimiser, LossSettings())
        update_momentum_branch(network, 0.9)
        losses.append(terms.total.item())
    assert losses[-1] < losses[0] - 0.05


def test_accumulated_batches_give_the_mean_gradient() -> None:
    def gradients(batches: list[ViewPair]) -> list[Tensor]:
        torch.manual_seed(0)
        network = SiameseNetwork(settings(token_drop=0.0), 13, 32).train()
        optimiser = make_optimiser(network, OptimiserSettings(), fused=False)
        set_learning_rate(optimiser, 0.0)
        training_step(network, batches, optimiser, LossSettings())
        return [p.grad for p in network.parameters() if p.grad is not None]

    one, other, both = (gradients(b) for b in ([pair()], [pair(seed=1)], [pair(), pair(seed=1)]))
    for a, b, mean in zip(one, other, both, strict=True):
        torch.testing.assert_close((a + b) / 2, mean, atol=1e-5, rtol=1e-3)


def test_a_loss_that_is_not_finite_changes_no_weight() -> None:
    network = SiameseNetwork(settings(), 13, 32).train()
    optimiser = make_optimiser(network, OptimiserSettings(), fused=False)
    set_learning_rate(optimiser, 1e-2)
    batch = pair()
    batch.first[0, 0, 0, 0] = float("nan")
    before = [p.clone() for p in network.parameters()]
    terms, _ = training_step(network, [batch], optimiser, LossSettings())
    assert not torch.isfinite(terms.total)
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(old, new)


def test_norms_and_biases_do_not_decay_and_early_layers_learn_slower() -> None:
    network = SiameseNetwork(settings(), 13, 32)
    optimiser = make_optimiser(
        network, OptimiserSettings(weight_decay=0.1, layer_decay=0.5), fused=False
    )
    set_learning_rate(optimiser, 1.0)
    group_of = {id(p): g for g in optimiser.param_groups for p in g["params"]}
    depth = weight_layers(network.base_encoder)
    for name, parameter in network.base_encoder.named_parameters():
        group = group_of[id(parameter)]
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
        assert group["lr"] == 0.5 ** (max(depth.values()) - depth[name])
    assert depth["patch_embed.proj.weight"] == 0
    assert depth["blocks.0.attn.qkv.weight"] == 1
    assert depth["norm.weight"] == 13
    assert group_of[id(network.predictor[0].weight)]["lr"] == 1.0


def test_patch_embedding_can_be_frozen() -> None:
    network = SiameseNetwork(settings(), 13, 32)
    make_optimiser(network, OptimiserSettings(freeze_patch_embedding=True), fused=False)
    assert not first_layer(network.base_encoder).weight.requires_grad


def test_schedules_have_their_ends() -> None:
    rates = [learning_rate(s, peak=2.0, warmup_steps=10, total_steps=100) for s in range(101)]
    assert rates[0] == 0.2
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    momenta = [ema_momentum(s, start=0.99, total_steps=100) for s in range(101)]
    assert momenta[0] == pytest.approx(0.99)
    assert momenta[50] == pytest.approx(0.995)
    assert momenta[100] == 1.0
    assert momenta == sorted(momenta)


def test_monitors_tell_a_collapse() -> None:
    spread = torch.randn(256, 32, generator=torch.Generator().manual_seed(0))
    healthy = collapse_monitors(spread, spread + 0.01)
    assert healthy["feature_std"] == pytest.approx(1.0, abs=0.1)
    assert healthy["effective_rank"] > 25
    assert healthy["uniformity"] < -2
    one = torch.ones(256, 32) + 1e-4 * spread
    collapsed = collapse_monitors(one, one)
    assert collapsed["feature_std"] < 0.01
    assert collapsed["uniformity"] == pytest.approx(0.0, abs=1e-3)
    assert collapsed["alignment"] == pytest.approx(0.0, abs=1e-6)


def test_features_of_several_layers() -> None:
    model: nn.Module = make_encoder(VIT, num_bands=2, image_size=32).eval()
    images = torch.rand(3, 2, 32, 32)
    assert pooled_layers(model, images, 1).shape == (3, 192)
    assert pooled_layers(model, images, 4).shape == (3, 192 * 5)
