"""Which images a location's seasons are cut from, and why not the others: a pure choice.

A listing says what the provider has around a location. `choose_acquisitions` turns it into a plan:
one Sentinel-2 tile for the location, one image of it per season with its L2A twin and its label map
(all three share an index), and the Sentinel-1 image that goes with it. Every image that is not
taken is counted with its reason. An image that turns out to be gone is struck from the listing, and
the choice is simply made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from groundwork.errors import unknown_choice
from pipeline.sources.date_windows import Window, days_apart
from pipeline.sources.earth_engine.collections import ANCHOR
from pipeline.sources.earth_engine.settings import AcquisitionSettings, ImageOrder
from storage_schema.products import PRODUCTS, Pairing, ProductName
from storage_schema.status import OrbitPass, StatusReason

Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image of a listing.

    Args:
        id: ``system:index``.
        time_ms: start of sensing, milliseconds since 1970-01-01 UTC.
        contains_patch: whether its footprint holds the whole patch.
        cloud_percentage: of the whole image; None where the collection has none.
        sun_elevation_deg: mean; None where the collection has none.
        tile: MGRS tile, ``32TPT``; empty where the collection has none.
        crs: authority code of its own pixels; empty where not asked for.
        transform: from (column, row) of its coarsest band asked for to its CRS; None likewise.
        orbit_pass: flight direction.
        relative_orbit: number; None where not known.
        bands: names.
    """

    id: str
    time_ms: int
    contains_patch: bool = True
    cloud_percentage: float | None = None
    sun_elevation_deg: float | None = None
    tile: str = ""
    crs: str = ""
    transform: Affine | None = None
    orbit_pass: OrbitPass = OrbitPass.UNKNOWN
    relative_orbit: int | None = None
    bands: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """What the provider has around one location.

    Args:
        images: product -> candidates, in any order. `s2_l1c` decides on seasons and tile and is
            listed even where it is not stored.
        num_incomplete: product -> images that lack a property and were therefore not listed.
    """

    images: Mapping[ProductName, Sequence[Candidate]]
    num_incomplete: Mapping[ProductName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeasonPlan:
    """What to fetch for one season.

    Args:
        acquisitions: product -> its image.
        reasons: product -> why it has none.
    """

    acquisitions: Mapping[ProductName, Candidate]
    reasons: Mapping[ProductName, StatusReason]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch for a location.

    Args:
        anchor: a Sentinel-2 image of the chosen tile, which gives the lattice; None where no season
            has one.
        seasons: one per window.
        rejected: reason -> images not taken for it.
    """

    anchor: Candidate | None
    seasons: tuple[SeasonPlan, ...]
    rejected: Counter[StatusReason]


# An image or a season that got farther is the more telling one.
_STAGES: Final = (
    StatusReason.NO_IMAGE_IN_WINDOW,
    StatusReason.OUTSIDE_FOOTPRINT,
    StatusReason.TOO_CLOUDY,
    StatusReason.NO_L2A,
    StatusReason.NO_DYNAMIC_WORLD,
    StatusReason.MISSING_POLARISATION,
    StatusReason.OTHER_ORBIT_PASS,
    StatusReason.TOO_FAR_IN_TIME,
    StatusReason.OTHER_TILE,
    StatusReason.UNREADABLE_METADATA,
    StatusReason.DISAPPEARED,
)


def choose_acquisitions(
    listing: Listing,
    windows: Sequence[Window],
    products: Sequence[ProductName],
    settings: AcquisitionSettings,
    gone: frozenset[tuple[ProductName, str]] = frozenset(),
) -> Plan:
    """Choose a location's images.

    Args:
        listing: what there is.
        windows: of the seasons; none overlap.
        products: what is to be stored.
        settings: what is wanted.
        gone: (product, id) of listed images that could not be fetched any more.
    """
    rejected: Counter[StatusReason] = Counter()
    usable: list[list[Candidate]] = []
    failed: list[list[StatusReason]] = []
    for window in windows:
        verdicts = [
            (image, _verdict(image, listing, products, settings, gone))
            for image in listing.images.get(ANCHOR, ())
            if window.contains(image.time_ms)
        ]
        usable.append([image for image, reason in verdicts if reason is None])
        failed.append([reason for _, reason in verdicts if reason is not None])
        rejected.update(failed[-1])
    tile = _choose_tile(usable, windows, settings)
    seasons = []
    anchors = []
    for window, images, reasons in zip(windows, usable, failed, strict=True):
        of_tile = sorted(
            (image for image in images if image.tile == tile), key=_rank(window, settings)
        )
        other_tiles = [StatusReason.OTHER_TILE] * (len(images) - len(of_tile))
        rejected.update(other_tiles)
        rejected[StatusReason.RANKED_LOWER] += max(0, len(of_tile) - 1)
        if of_tile:
            anchors.append(of_tile[0])
            seasons.append(_plan_season(of_tile[0], listing, products, settings, gone, rejected))
        else:
            incomplete = listing.num_incomplete.get(ANCHOR, 0)
            why = _most_telling([*reasons, *other_tiles], incomplete)
            seasons.append(SeasonPlan({}, dict.fromkeys(products, why)))
    for product, number in listing.num_incomplete.items():
        del product
        rejected[StatusReason.UNREADABLE_METADATA] += number
    if 0 < len(anchors) < settings.min_seasons:
        too_few = SeasonPlan({}, dict.fromkeys(products, StatusReason.TOO_FEW_SEASONS))
        seasons = [too_few if season.acquisitions else season for season in seasons]
        rejected[StatusReason.TOO_FEW_SEASONS] += len(anchors)
        anchors = []
    return Plan(anchors[0] if anchors else None, tuple(seasons), +rejected)


def _verdict(
    image: Candidate,
    listing: Listing,
    products: Sequence[ProductName],
    settings: AcquisitionSettings,
    gone: frozenset[tuple[ProductName, str]],
) -> StatusReason | None:
    """Return why a Sentinel-2 image cannot be taken; None where it can."""
    cloud = image.cloud_percentage
    if not image.contains_patch:
        return StatusReason.OUTSIDE_FOOTPRINT
    if cloud is None or cloud > settings.max_cloud_percentage:
        return StatusReason.TOO_CLOUDY
    # A twin that is gone counts as the image's own loss: the next-ranked image takes its place.
    required = [name for name in PRODUCTS if settings.requires(name)]
    for name in required:
        if name in products and _twin(listing, name, image) is None:
            return PRODUCTS[name].missing_reason
    twins = (ANCHOR, *required)
    if any((product, image.id) in gone for product in twins):
        return StatusReason.DISAPPEARED
    return None


def _twin(listing: Listing, product: ProductName, image: Candidate) -> Candidate | None:
    """Return the image of another product with the same index."""
    return next((twin for twin in listing.images.get(product, ()) if twin.id == image.id), None)


def _choose_tile(
    usable: Sequence[Sequence[Candidate]],
    windows: Sequence[Window],
    settings: AcquisitionSettings,
) -> str | None:
    """Return the tile with the most seasons; of equals the one with better images."""
    tiles = {image.tile for images in usable for image in images}

    def rank(tile: str) -> tuple[int, float, str]:
        best = [
            min(of_tile, key=_rank(window, settings))
            for window, images in zip(windows, usable, strict=True)
            if (of_tile := [image for image in images if image.tile == tile])
        ]
        return -len(best), sum(image.cloud_percentage or 0.0 for image in best), tile

    return min(tiles, key=rank, default=None)


def _rank(
    window: Window, settings: AcquisitionSettings
) -> Callable[[Candidate], tuple[float, float, str]]:
    """Return the sort key of a season's images: the best is least, and equals have an order."""

    def key(image: Candidate) -> tuple[float, float, str]:
        days = days_apart(image.time_ms, window.centre_ms)
        cloud = image.cloud_percentage or 0.0
        match settings.order:
            case "least_cloudy":
                return cloud, days, image.id
            case "nearest":
                return days, cloud, image.id
            case "newest":
                return -float(image.time_ms), cloud, image.id
            case _:
                raise unknown_choice("acquisitions.order", settings.order, get_args(ImageOrder))

    return key


def _plan_season(
    image: Candidate,
    listing: Listing,
    products: Sequence[ProductName],
    settings: AcquisitionSettings,
    gone: frozenset[tuple[ProductName, str]],
    rejected: Counter[StatusReason],
) -> SeasonPlan:
    """Find what goes with a chosen Sentinel-2 image."""
    acquisitions: dict[ProductName, Candidate] = {}
    reasons: dict[ProductName, StatusReason] = {}
    for product in products:
        found: Candidate | None
        pairing = PRODUCTS[product].pairing
        match pairing:
            case Pairing.ANCHOR:
                found, why = image, StatusReason.NONE
            case Pairing.NEAREST_IN_TIME:
                found, why = _choose_nearest(product, image, listing, settings, gone, rejected)
            case Pairing.SAME_IMAGE:
                found, why = _twin(listing, product, image), PRODUCTS[product].missing_reason
                if found is not None and (product, image.id) in gone:
                    found, why = None, StatusReason.DISAPPEARED
            case _:
                raise unknown_choice("pairing", pairing, list(Pairing))
        if found is None:
            reasons[product] = why
        else:
            acquisitions[product] = found
    return SeasonPlan(acquisitions, reasons)


def _choose_nearest(
    product: ProductName,
    anchor: Candidate,
    listing: Listing,
    settings: AcquisitionSettings,
    gone: frozenset[tuple[ProductName, str]],
    rejected: Counter[StatusReason],
) -> tuple[Candidate | None, StatusReason]:
    """Return the image nearest in time to the anchor, or why there is none."""
    preferred = settings.s1.wanted_pass
    usable: list[Candidate] = []
    reasons: list[StatusReason] = []
    for image in listing.images.get(product, ()):
        days = days_apart(image.time_ms, anchor.time_ms)
        if days > settings.s1.max_days_apart:
            continue  # It may belong to another season.
        if not image.contains_patch:
            reasons.append(StatusReason.OUTSIDE_FOOTPRINT)
        elif not image.bands.issuperset(PRODUCTS[product].bands):
            reasons.append(StatusReason.MISSING_POLARISATION)
        elif settings.s1.refuses_other_pass and image.orbit_pass != preferred:
            reasons.append(StatusReason.OTHER_ORBIT_PASS)
        elif (product, image.id) in gone:
            reasons.append(StatusReason.DISAPPEARED)
        else:
            usable.append(image)
    rejected.update(reasons)
    rejected[StatusReason.RANKED_LOWER] += max(0, len(usable) - 1)
    if not usable:
        some_far = bool(listing.images.get(product)) and not reasons
        reasons += [StatusReason.TOO_FAR_IN_TIME] if some_far else []
        return None, _most_telling(reasons, listing.num_incomplete.get(product, 0))

    def rank(image: Candidate) -> tuple[bool, float, str]:
        other_pass = preferred is not None and image.orbit_pass != preferred
        return other_pass, days_apart(image.time_ms, anchor.time_ms), image.id

    return min(usable, key=rank), StatusReason.NONE


def _most_telling(reasons: Iterable[StatusReason], num_incomplete: int) -> StatusReason:
    """Return the reason of the image that came nearest to being taken.

    "No image" is said only where nothing at all was listed.
    """
    found = set(reasons)
    if num_incomplete:
        found.add(StatusReason.UNREADABLE_METADATA)
    return max(found or {StatusReason.NO_IMAGE_IN_WINDOW}, key=_STAGES.index)
