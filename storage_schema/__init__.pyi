from .conformance import Violation as Violation
from .conformance import find_violations as find_violations
from .land_cover import (
    CLASS_NAMES as CLASS_NAMES,
)
from .land_cover import (
    CLASSES as CLASSES,
)
from .land_cover import (
    MASKED as MASKED,
)
from .land_cover import (
    LabelStatus as LabelStatus,
)
from .land_cover import (
    LandCoverClass as LandCoverClass,
)
from .land_cover import (
    derive_class_present as derive_class_present,
)
from .layout import (
    SCHEMA_VERSION as SCHEMA_VERSION,
)
from .layout import (
    CubeDescription as CubeDescription,
)
from .layout import (
    Layout as Layout,
)
from .layout import (
    SchemaVersionError as SchemaVersionError,
)
from .products import (
    PATCH_SIZE_M as PATCH_SIZE_M,
)
from .products import (
    PRODUCT_NAMES as PRODUCT_NAMES,
)
from .products import (
    PRODUCTS as PRODUCTS,
)
from .products import (
    BandGroup as BandGroup,
)
from .products import (
    NoData as NoData,
)
from .products import (
    Pairing as Pairing,
)
from .products import (
    Product as Product,
)
from .products import (
    Role as Role,
)
from .products import (
    published_statistics as published_statistics,
)
from .status import (
    OrbitPass as OrbitPass,
)
from .status import (
    PatchStatus as PatchStatus,
)
from .status import (
    Split as Split,
)
from .status import (
    StatusReason as StatusReason,
)

__all__ = [
    "CLASSES",
    "CLASS_NAMES",
    "MASKED",
    "PATCH_SIZE_M",
    "PRODUCTS",
    "PRODUCT_NAMES",
    "SCHEMA_VERSION",
    "BandGroup",
    "CubeDescription",
    "LabelStatus",
    "LandCoverClass",
    "Layout",
    "NoData",
    "OrbitPass",
    "Pairing",
    "PatchStatus",
    "Product",
    "Role",
    "SchemaVersionError",
    "Split",
    "StatusReason",
    "Violation",
    "derive_class_present",
    "find_violations",
    "published_statistics",
]
