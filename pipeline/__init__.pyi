from .build.builder import (
    BuildSummary as BuildSummary,
)
from .build.builder import (
    Execution as Execution,
)
from .build.builder import (
    build_cube as build_cube,
)
from .build.forecast import Forecast as Forecast
from .build.forecast import forecast_new as forecast_new
from .build.fraction_table import (
    FractionSummary as FractionSummary,
)
from .build.fraction_table import (
    write_class_fractions as write_class_fractions,
)
from .build.rebuild import open_rebuild as open_rebuild
from .build.rebuild import rebuild_cube as rebuild_cube
from .cube.audit import AuditResult as AuditResult
from .cube.audit import audit_cube as audit_cube
from .cube.inspection import CubeFacts as CubeFacts
from .cube.inspection import inspect_cube as inspect_cube
from .cube.object_storage import ObjectStorage as ObjectStorage
from .cube.patch_store import PatchStore as PatchStore
from .cube.seal import Seal as Seal
from .cube.seal import seal_cube as seal_cube
from .grids import Grid as Grid
from .grids import patch_grid as patch_grid
from .land_cover.class_fractions import (
    LandCoverPatch as LandCoverPatch,
)
from .land_cover.class_fractions import (
    class_fractions_for_grids as class_fractions_for_grids,
)
from .land_cover.class_fractions import (
    class_fractions_of as class_fractions_of,
)
from .land_cover.class_fractions import (
    class_fractions_on as class_fractions_on,
)
from .land_cover.class_fractions import (
    open_land_cover as open_land_cover,
)
from .ledger import Ledger as Ledger
from .patches import (
    Acquisition as Acquisition,
)
from .patches import (
    LocationPatches as LocationPatches,
)
from .patches import (
    PatchSource as PatchSource,
)
from .patches import (
    ProductPatch as ProductPatch,
)
from .patches import (
    SeasonPatches as SeasonPatches,
)
from .places.files import (
    Locations as Locations,
)
from .places.files import (
    read_locations as read_locations,
)
from .places.files import (
    write_locations as write_locations,
)
from .places.locations import make_locations as make_locations
from .places.patch_grids import PatchGrids as PatchGrids
from .places.patch_grids import read_grids as read_grids
from .places.settings import read_location_settings as read_location_settings
from .report.data_card import write_data_card as write_data_card
from .report.page import report_cube as report_cube
from .sources.earth_engine.settings import (
    EarthEngineSettings as EarthEngineSettings,
)
from .sources.earth_engine.settings import (
    RebuildSettings as RebuildSettings,
)
from .sources.registry import (
    BuildPlan as BuildPlan,
)
from .sources.registry import (
    RequestPlan as RequestPlan,
)
from .sources.registry import (
    SourceKind as SourceKind,
)
from .sources.registry import (
    read_build_settings as read_build_settings,
)
from .sources.registry import (
    register as register,
)
from .sources.ssl4eo_s12.settings import ImportSettings as ImportSettings

__all__ = [
    "Acquisition",
    "AuditResult",
    "BuildPlan",
    "BuildSummary",
    "CubeFacts",
    "EarthEngineSettings",
    "Execution",
    "Forecast",
    "FractionSummary",
    "Grid",
    "ImportSettings",
    "LandCoverPatch",
    "Ledger",
    "LocationPatches",
    "Locations",
    "ObjectStorage",
    "PatchGrids",
    "PatchSource",
    "PatchStore",
    "ProductPatch",
    "RebuildSettings",
    "RequestPlan",
    "Seal",
    "SeasonPatches",
    "SourceKind",
    "audit_cube",
    "build_cube",
    "class_fractions_for_grids",
    "class_fractions_of",
    "class_fractions_on",
    "forecast_new",
    "inspect_cube",
    "make_locations",
    "open_land_cover",
    "open_rebuild",
    "patch_grid",
    "read_build_settings",
    "read_grids",
    "read_location_settings",
    "read_locations",
    "rebuild_cube",
    "register",
    "report_cube",
    "seal_cube",
    "write_class_fractions",
    "write_data_card",
    "write_locations",
]
