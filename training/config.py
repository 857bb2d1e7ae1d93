"""What a user writes in a configuration of a pretraining run, checked.

Defaults that no publication supports are marked *assumed*; docs/method.md lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from groundwork.errors import InputError
from groundwork.settings_text import (
    Matching,
    PathText,
    SettingsModel,
    read_settings,
    sentence_of,
)
from storage_schema.products import PRODUCTS, ImageryName, ProductName
from training.choices import LabelSimilarity, SoftForm

Probability = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]
Sigma = Annotated[float, Field(gt=0, le=100)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(le=1_000_000_000)]
Size = Annotated[float, Field(le=1e6)]


class DataSettings(SettingsModel):
    """Which patches are read, and how.

    Args:
        cubes: folders or s3://bucket/prefix of sealed cubes.
        modality: one product, or two whose bands are stacked: s2_l1c (13 bands), s2_l2a (12),
            s1_grd (2).
        statistics: `cube`: mean and standard deviation over all given cubes; `published`: those of
            SSL4EO-S12, which the published SoftCon weights want.
        min_class_fraction: a class is present where it covers more than this share of the valid
            pixels; 0 means any pixel (assumed). Only where fractions are known.
        unsealed: read cubes that are not sealed (their digest is then unknown).
        unreadable: `stop` at a missing or corrupt patch, or `skip` the sample and count it.
        batches_ahead: batches read before they are needed.
        num_locations: use only the first so many locations; None uses all.
    """

    cubes: tuple[PathText, ...] = Field(min_length=1, max_length=10_000)
    modality: tuple[ImageryName, ...] = Field(("s2_l1c",), min_length=1, max_length=2)
    statistics: Literal["cube", "published"] = "published"
    min_class_fraction: float = Field(0.0, ge=0, lt=1)
    unsealed: bool = False
    unreadable: Literal["stop", "skip"] = "stop"
    batches_ahead: int = Field(2, ge=1, le=64)
    num_locations: int | None = Field(None, ge=1, le=10_000_000_000)

    @field_validator("modality")
    @classmethod
    def _check_modality(cls, modality: tuple[ImageryName, ...]) -> tuple[ImageryName, ...]:
        if len(set(modality)) < len(modality):
            raise ValueError("the two products have to differ")
        return modality

    @property
    def num_bands(self) -> int:
        """Channels of the encoder's input."""
        products: tuple[ProductName, ...] = self.modality
        return sum(len(PRODUCTS[name].bands) for name in products)


class ViewSettings(SettingsModel):
    """How a patch becomes two views (assumed, after SSL4EO-S12's MoCo-v3 script).

    Args:
        image_size: side of a view, pixels.
        crop_scale: share of the patch's area that a crop takes, least and most.
        crop_ratio: width / height of a crop, least and most.
        flip: probability of each of a horizontal and a vertical flip.
        brightness: optical bands are multiplied by 1 +- this.
        contrast: optical bands are stretched about their mean by 1 +- this.
        jitter: probability of brightness and contrast.
        gray: probability that all optical bands become their mean.
        blur: probability of a Gaussian blur, of the first and of the second view.
        blur_sigma: its standard deviation in pixels, least and most.
        sar_shift_db: backscatter is shifted by up to this, per polarisation, dB.
        sar_contrast: backscatter is stretched about its mean by 1 +- this.
    """

    image_size: int = Field(224, ge=16, le=1024)
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[Ratio, Ratio] = (0.75, 4 / 3)
    flip: Probability = 0.5
    brightness: float = Field(0.4, ge=0, lt=1)
    contrast: float = Field(0.4, ge=0, lt=1)
    jitter: Probability = 0.8
    gray: Probability = 0.2
    blur: tuple[Probability, Probability] = (1.0, 0.1)
    blur_sigma: tuple[Sigma, Sigma] = (0.1, 2.0)
    sar_shift_db: float = Field(1.0, ge=0, le=10)
    sar_contrast: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            least, most = getattr(self, name)
            if not 0 < least <= most:
                raise ValueError(f"{name} is (least, most), both above 0: {least}, {most}")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale {self.crop_scale} takes more than the patch")
        return self


class ModelSettings(SettingsModel):
    """The Siamese network.

    Args:
        encoder: name in timm: resnet50, vit_small_patch14_dinov2, vit_base_patch14_dinov2, ...
        initialise: `random`; a local weights file (.pth, .safetensors); or `hub`: what timm's name
            stands for (DINOv2), fetched from the hub.
        patch_embedding: of initialised encoders, whose input had three bands: `random` draws new
            weights (assumed), `inflate` spreads the old ones over the new bands as timm does.
        token_drop: share of patch tokens that the base branch does not see (ViT alone; assumed).
        hidden: width of the heads.
        output: width of queries and keys.
        projector_layers: None takes 3 for a ViT, 2 for a convolutional network (MoCo-v3).
        predictor_layers: layers of the predictor.
        ema_start: momentum of the second branch at the start; it ends at 1.
    """

    encoder: str = Field("vit_small_patch14_dinov2", min_length=1, max_length=200)
    initialise: PathText = "random"
    patch_embedding: Literal["random", "inflate"] = "random"
    token_drop: float = Field(0.5, ge=0, lt=1)
    hidden: int = Field(4096, ge=8, le=65_536)
    output: int = Field(256, ge=4, le=65_536)
    projector_layers: int | None = Field(None, ge=1, le=8)
    predictor_layers: int = Field(2, ge=1, le=8)
    ema_start: float = Field(0.99, ge=0, le=1)


class LossSettings(SettingsModel):
    """The objective: contrastive_weight x contrastive + soft_weight x soft (weights assumed).

    Args:
        contrastive_weight: of the contrastive term.
        soft_weight: of the soft term.
        temperature: tau of the contrastive term.
        soft_form: `bce`, `softmax` or `mse` (assumed: bce).
        soft_temperature: tau of the soft term.
        soft_bias: added to its logits (`bce`).
        similarity: of labels; `cosine` of multi-hot vectors (assumed), `cosine_fractions`,
            `jaccard`, `bray_curtis`, `dominant_class` (hard labels).
    """

    contrastive_weight: Size = Field(1.0, ge=0)
    soft_weight: Size = Field(1.0, ge=0)
    temperature: Size = Field(0.2, ge=1e-4)
    soft_form: SoftForm = "bce"
    soft_temperature: Size = Field(0.2, ge=1e-4)
    soft_bias: Size = Field(0.0, ge=-1e6)
    similarity: LabelSimilarity = "cosine"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.contrastive_weight == 0 and self.soft_weight == 0:
            raise ValueError("contrastive_weight and soft_weight are both 0: nothing is learnt")
        return self


class OptimiserSettings(SettingsModel):
    """AdamW and its schedule.

    Args:
        base_lr: learning rate per 256 patches of the global batch.
        weight_decay: of everything but norms and biases.
        betas: of AdamW.
        warmup_epochs: until the learning rate is reached.
        layer_decay: the learning rate of each earlier layer is so many times that of the next; 1
            for pretraining from scratch, less for continual pretraining.
        freeze_patch_embedding: keep it as it is, as MoCo-v3 does against instability.
        clip_norm: greatest norm of the gradient; None does not clip.
        accumulate: gradients of so many batches make one step.
    """

    base_lr: Size = Field(1.5e-4, gt=0)
    weight_decay: Size = Field(0.1, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    warmup_epochs: Size = Field(10.0, ge=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
    freeze_patch_embedding: bool = False
    clip_norm: float | None = Field(None, gt=0, le=1e6)
    accumulate: int = Field(1, ge=1, le=65_536)


class EvaluationSettings(SettingsModel):
    """What is looked at during the run.

    Args:
        every_epochs: kNN and a quick linear probe on the validation split; 0 never.
        max_patches: of each split.
        neighbours: of kNN.
        min_class_fraction: a class counts as present where it covers more than this share; a
            single pixel of a class, which may be an error of the map, is no use as a question.
    """

    every_epochs: Count = Field(10, ge=0)
    max_patches: Count = Field(4096, ge=16)
    neighbours: Count = Field(20, ge=1)
    min_class_fraction: float = Field(0.05, ge=0, lt=1)


class RunSettings(SettingsModel):
    """A pretraining run.

    Args:
        out: folder of the run.
        data: what is read.
        views: what becomes of it.
        model: what learns.
        loss: what it learns.
        optimiser: how.
        evaluation: what is looked at meanwhile.
        epochs: passes over all locations; an epoch takes each location once.
        batch_size: locations of a step, over all processes and accumulated batches.
        seed: of initial weights, order and views.
        precision: `bf16` autocast or `float32`.
        device: `auto` takes a GPU where there is one.
        deterministic: the same bytes in every run on one machine; slower on a GPU.
        compile: torch.compile (slower on a CPU).
        checkpoint_minutes: between two checkpoints; one is also written at the end of every epoch.
        keep_checkpoints: newest ones that are kept.
        log_every: steps between two lines of the log.
    """

    out: PathText
    data: DataSettings
    views: ViewSettings = ViewSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    epochs: Count = Field(100, ge=1)
    batch_size: Count = Field(1024, ge=2)
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["bf16", "float32"] = "bf16"
    device: Annotated[
        str,
        Matching(r"auto|cpu|cuda(:\d{1,3})?", "give auto, cpu, cuda, or one GPU such as cuda:1"),
    ] = "auto"
    deterministic: bool = False
    compile: bool = False
    checkpoint_minutes: Size = Field(15.0, gt=0)
    keep_checkpoints: Count = Field(3, ge=1)
    log_every: Count = Field(10, ge=1)


def read_run_settings(path: Path, changes: Sequence[str] = ()) -> RunSettings:
    """Read a YAML file and change single settings.

    A file may name a `preset` (see `training.presets`): its settings apply where the file says
    nothing else.

    Raises:
        InputError: it cannot be read, or holds something that does not belong.
    """
    return parse_run_settings(read_settings(path, changes), str(path))


def parse_run_settings(values: dict[Any, Any], where: str) -> RunSettings:
    """Check settings.

    Raises:
        InputError: something is missing, unknown or out of range.
    """
    from training.presets import with_preset

    try:
        return RunSettings.model_validate(with_preset(values))
    except ValidationError as error:
        raise InputError(f"{where}: {sentence_of(error)}") from error
    except KeyError as error:
        raise InputError(f"{where}: {error.args[0]}") from error
