from .backbones.backbone_files import (
    BackboneCard as BackboneCard,
)
from .backbones.backbone_files import (
    load_encoder as load_encoder,
)
from .backbones.backbone_files import (
    read_card as read_card,
)
from .backbones.backbone_files import (
    read_weights as read_weights,
)
from .backbones.export import export_backbone as export_backbone
from .backbones.scores import ProbeResult as ProbeResult
from .config import (
    DataSettings as DataSettings,
)
from .config import (
    RunSettings as RunSettings,
)
from .config import (
    ViewSettings as ViewSettings,
)
from .config import (
    read_run_settings as read_run_settings,
)
from .evaluation.finetune import FinetuneSettings as FinetuneSettings
from .evaluation.metrics import (
    average_precision as average_precision,
)
from .evaluation.metrics import (
    bootstrap_map as bootstrap_map,
)
from .evaluation.metrics import (
    mean_average_precision as mean_average_precision,
)
from .evaluation.probe import (
    finetune_backbone as finetune_backbone,
)
from .evaluation.probe import (
    probe_backbone as probe_backbone,
)
from .evaluation.probe import (
    probe_on_dataset as probe_on_dataset,
)
from .network.encoders import make_encoder as make_encoder
from .network.siamese import SiameseNetwork as SiameseNetwork
from .objective.label_similarity import label_similarity as label_similarity
from .objective.losses import contrastive_loss as contrastive_loss
from .objective.losses import soft_loss as soft_loss
from .reading.cube_files import CubeFiles as CubeFiles
from .reading.patch_index import (
    BandStatistics as BandStatistics,
)
from .reading.patch_index import (
    PatchIndex as PatchIndex,
)
from .reading.patch_index import (
    open_index as open_index,
)
from .reading.patch_index import (
    read_statistics as read_statistics,
)
from .reading.patch_reader import (
    PatchBatch as PatchBatch,
)
from .reading.patch_reader import (
    PatchReader as PatchReader,
)
from .reading.patch_reader import (
    PatchRefs as PatchRefs,
)
from .reading.sample_order import SampleOrder as SampleOrder
from .reading.views import ViewMaker as ViewMaker

__all__ = [
    "BackboneCard",
    "BandStatistics",
    "CubeFiles",
    "DataSettings",
    "FinetuneSettings",
    "PatchBatch",
    "PatchIndex",
    "PatchReader",
    "PatchRefs",
    "ProbeResult",
    "RunSettings",
    "SampleOrder",
    "SiameseNetwork",
    "ViewMaker",
    "ViewSettings",
    "average_precision",
    "bootstrap_map",
    "contrastive_loss",
    "export_backbone",
    "finetune_backbone",
    "label_similarity",
    "load_encoder",
    "make_encoder",
    "mean_average_precision",
    "open_index",
    "probe_backbone",
    "probe_on_dataset",
    "read_card",
    "read_run_settings",
    "read_statistics",
    "read_weights",
    "soft_loss",
]
