"""The Siamese network: a trained branch, and a second one that follows it.

Source: arXiv 2405.20462, framework figure; heads and momentum as in MoCo-v3 (arXiv 2104.02057).
"""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor, nn

from training.config import ModelSettings
from training.network.encoders import is_transformer, make_encoder, num_features

_PROJECTOR_LAYERS: Final = {True: 3, False: 2}
"""Of a transformer, of a convolutional network."""


class SiameseNetwork(nn.Module):
    """Base encoder, projector and predictor; momentum encoder and projector.

    Token dropping (transformers) acts on the base branch only: the momentum branch sees everything.

    Args:
        settings: of the model.
        num_bands: input channels.
        image_size: side of the views.
    """

    def __init__(self, settings: ModelSettings, num_bands: int, image_size: int) -> None:
        super().__init__()
        transformer = is_transformer(settings.encoder)
        self.base_encoder = make_encoder(
            settings.encoder,
            num_bands=num_bands,
            image_size=image_size,
            token_drop=settings.token_drop,
            initialise=settings.initialise,
            patch_embedding=settings.patch_embedding,
        )
        layers = settings.projector_layers or _PROJECTOR_LAYERS[transformer]
        width, hidden, output = num_features(self.base_encoder), settings.hidden, settings.output
        self.base_projector = mlp(width, hidden, output, layers, last_norm=True)
        self.predictor = mlp(
            output, hidden, output, settings.predictor_layers, last_norm=transformer
        )
        self.momentum_encoder = copy.deepcopy(self.base_encoder)
        self.momentum_projector = copy.deepcopy(self.base_projector)
        drop = getattr(self.momentum_encoder, "patch_drop", None)
        if drop is not None:
            self.momentum_encoder.patch_drop = nn.Identity()
        for module in (self.momentum_encoder, self.momentum_projector):
            module.requires_grad_(requires_grad=False)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return queries and keys of two views.

        Args:
            first: (B, bands, y, x).
            second: likewise, of the same locations.

        Returns:
            Queries of the first and of the second view, keys of the first and of the second;
            (B, output) each. Keys carry no gradient.
        """
        queries = (self._query(first), self._query(second))
        with torch.no_grad():
            keys = (self._key(first), self._key(second))
        return *queries, *keys

    def _query(self, images: Tensor) -> Tensor:
        found: Tensor = self.predictor(self.base_projector(self.base_encoder(images)))
        return found

    def _key(self, images: Tensor) -> Tensor:
        found: Tensor = self.momentum_projector(self.momentum_encoder(images))
        return found


@torch.no_grad()
def update_momentum_branch(network: SiameseNetwork, momentum: float) -> None:
    """Move the momentum branch: parameters by the moving average, buffers copied.

    Called once per optimiser step, not per batch.
    """
    for base, follower in (
        (network.base_encoder, network.momentum_encoder),
        (network.base_projector, network.momentum_projector),
    ):
        target = dict(follower.named_parameters())
        torch._foreach_lerp_(
            list(target.values()),
            [parameter for name, parameter in base.named_parameters() if name in target],
            1.0 - momentum,
        )
        for name, buffer in follower.named_buffers():
            buffer.copy_(base.get_buffer(name))


def mlp(width: int, hidden: int, output: int, layers: int, *, last_norm: bool) -> nn.Sequential:
    """Return a head: linear layers without bias, each but the last with norm and ReLU.

    Args:
        width: of the input.
        hidden: of the layers between.
        output: of the result.
        layers: linear layers.
        last_norm: whether the result is normalised too (without a scale of its own).
    """
    parts: list[nn.Module] = []
    for layer in range(layers):
        last = layer == layers - 1
        parts.append(nn.Linear(width if layer == 0 else hidden, output if last else hidden, False))
        if not last:
            parts += [nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        elif last_norm:
            parts.append(nn.BatchNorm1d(output, affine=False))
    return nn.Sequential(*parts)
