from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Mapping
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from zarr.storage import LocalStore, MemoryStore

from groundwork.errors import InputError, LimitReachedError
from pages.charts import ticks
from pages.formats import percent
from pipeline.build.builder import build_cube
from pipeline.cube.object_storage import ObjectStorage
from pipeline.cube.patch_store import PatchStore
from pipeline.cube.seal import seal_cube
from pipeline.errors import CubeDamagedError
from pipeline.report import gallery
from pipeline.report.bands import sample_statistics
from pipeline.report.gallery import choose_patches
from pipeline.report.labels import (
    FRACTION_EDGES,
    class_statistics,
    fraction_distributions,
    label_agreement,
)
from pipeline.report.page import render_report, write_report
from pipeline.report.patch_pictures import NO_DATA_COLOUR, sar_picture, stretch
from pipeline.report.small_arrays import read_small_arrays
from pipeline.report.timeline import TimelineRow, timeline
from pipeline.report.world_map import density_breaks, world_map
from storage_schema.land_cover import CLASS_NAMES, LabelStatus, derive_class_present
from storage_schema.layout import NO_TIME, coordinate_values, describe
from storage_schema.products import PRODUCT_NAMES, PRODUCTS, ProductName
from storage_schema.status import PatchStatus, StatusReason
from tests.synthetic import SyntheticSource, describe_cube, location_names

HOSTILE = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """The elements of a page: (tag, attributes) in order, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.elements)

    def words(self) -> str:
        return " ".join(self.text.split())


def make_cube(
    products: tuple[ProductName, ...] = PRODUCT_NAMES,
    num_locations: int = 3,
    num_seasons: int = 2,
    **description: object,
) -> zarr.Group:
    """Return an unsealed cube in memory, every patch complete, without going through a builder."""
    layout = describe(describe_cube(num_locations, products, **description))
    group = layout.group.to_zarr(MemoryStore(), "")
    for dim, (values, dtype, _) in coordinate_values(products).items():
        group[dim][:] = np.asarray(values, dtype=object if dtype == "string" else dtype)
    rng = np.random.default_rng(7)
    used = (slice(None), slice(0, num_seasons))
    shape = (num_locations, num_seasons)
    group["location_id"][:] = np.asarray(location_names(num_locations), dtype=object)
    group["longitude"][:] = np.linspace(-120, 140, num_locations)
    group["latitude"][:] = np.linspace(-30, 60, num_locations)
    group["georeference_error_m"][:] = np.linspace(1, 20, num_locations)
    group["patch_status"][used] = np.full((*shape, len(products)), PatchStatus.COMPLETE)
    ids = [[[f"ID_{n}_{s}"] * len(products) for s in range(num_seasons)] for n in range(shape[0])]
    group["acquisition_id"][used] = np.asarray(ids, dtype=object)
    day_ms = 86_400_000
    days = 18_000 + 90 * np.arange(num_seasons)[None, :, None] + np.zeros((*shape, len(products)))
    group["acquisition_time"][used] = (days * day_ms).astype(np.int64)
    group["cloud_percentage"][used] = rng.uniform(0, 30, (*shape, len(products)))
    for name in products:
        for bands in PRODUCTS[name].groups:
            side = bands.size_px
            if name == "dynamic_world":
                blocks = rng.integers(0, 9, (*shape, 4, 4))
                label = np.kron(blocks, np.ones((66, 66))).astype(np.uint8)
                group[bands.array][used] = label
                fraction = np.stack([(label == c).mean(axis=(2, 3)) for c in range(9)], axis=-1)
                group["class_fraction"][used] = fraction
                group["class_present"][used] = derive_class_present(fraction)
                group["labelled_fraction"][used] = np.ones(shape)
                group["label_status"][used] = np.full(shape, LabelStatus.LABELLED)
            else:
                size = (*shape, len(bands.bands), 6, 6)
                low, high = (-2000, -500) if name == "s1_grd" else (300, 3000)
                coarse = rng.integers(low, high, size)
                grown = np.kron(coarse, np.ones((side // 6 + 1, side // 6 + 1)))
                group[bands.array][used] = grown[..., :side, :side].astype(PRODUCTS[name].dtype)
    return group


@pytest.fixture(scope="module")
def cube() -> zarr.Group:
    return make_cube()


@pytest.fixture(scope="module")
def page_text(cube: zarr.Group) -> str:
    return render_report(cube, title="a cube", details={"further_seasons": 3})


def section(text: str, name: str) -> str:
    """Return the words of one section of the page."""
    found = re.search(rf'<section id="{name}">(.*?)</section>', text, re.DOTALL)
    assert found, f"the page has no section {name}"
    return Page(found[1]).words()


# --- one file, no request, nothing executed ----------------------------------------------------


def test_page_makes_no_request(page_text: str) -> None:
    for tag, attributes in Page(page_text).elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "srcset", "poster", "data", "action"}:
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert "url(" not in page_text
    assert "@import" not in page_text
    assert "default-src 'none'" in page_text


def test_same_cube_gives_the_same_bytes(tmp_path: Path) -> None:
    group = make_cube(num_locations=2)
    for name in ("one.html", "two.html"):
        write_report(zarr.open_group(group.store, mode="r"), tmp_path / name, title="a cube")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_hostile_text_is_shown_and_not_executed() -> None:
    group = make_cube(num_locations=2, num_seasons=1, source={"name": HOSTILE, HOSTILE: 1})
    group["location_id"][0] = HOSTILE
    group["acquisition_id"][0, 0, 1] = HOSTILE
    text = render_report(group, title=HOSTILE, details={HOSTILE: 1, "warnings": [HOSTILE]})
    assert "<script" not in text
    page = Page(text)
    assert page.count("script") == 0
    # Title, heading, warning, count, two of the source, id in the gallery and among the pairs.
    assert page.text.count(HOSTILE) >= 8
    # An attribute that the text could have broken out of.
    assert page.count("img", alt=f"SAR of location {HOSTILE}, slot 0") == 1


def test_tables_and_pictures_are_described(page_text: str) -> None:
    page = Page(page_text)
    headings = [a for tag, a in page.elements if tag == "th"]
    assert headings
    assert all(a.get("scope") in {"col", "row"} for a in headings)
    pictures = [a for tag, a in page.elements if tag == "img"]
    assert len(pictures) == 6 * 5
    assert all(a["alt"] for a in pictures)
    figures = [a for tag, a in page.elements if tag == "svg"]
    assert figures
    assert all(a.get("role") == "img" and a.get("aria-label") for a in figures)


# --- what the page says ------------------------------------------------------------------------


def test_licence_and_attribution_of_every_product_are_shown(
    cube: zarr.Group, page_text: str
) -> None:
    words = section(page_text, "licences")
    for entry in cube.attrs["products"].values():
        assert entry["licence"] in words
        assert entry["attribution"] in words


def test_disagreement_of_label_map_and_multi_label_is_counted() -> None:
    group = make_cube()
    present = group["class_present"][:]
    on_map = group["class_fraction"][:] > 0
    present[0, 0] = 1 - present[0, 0]  # all nine classes contradict the map
    present[1, 1, 2] = 1 - present[1, 1, 2]
    present[2, 0] = 255  # unknown: neither agrees nor disagrees
    group["class_present"][:] = present
    text = render_report(group, title="a cube", num_gallery=0)
    words = section(text, "agreement")
    assert "2 of 5 patches disagree" in words
    rows = {r.name: r for r in label_agreement(read_small_arrays(group)).rows}
    for index, name in enumerate(CLASS_NAMES):
        both = map_only = list_only = neither = 0
        for n in range(3):
            for s in range(2):
                if present[n, s, index] == 255:
                    continue
                a, b = bool(on_map[n, s, index]), bool(present[n, s, index])
                both += a and b
                map_only += a and not b
                list_only += b and not a
                neither += not a and not b
        row = rows[name]
        assert (row.num_both, row.num_map_only, row.num_list_only, row.num_neither) == (
            both,
            map_only,
            list_only,
            neither,
        )
        shown = f"{name.replace('_', ' ')} {both} {map_only} {list_only} {neither}"
        assert f"{shown} {map_only + list_only}" in words


def test_contradiction_is_named_beside_its_patch() -> None:
    group = make_cube(num_locations=1, num_seasons=1)
    fraction = group["class_fraction"][0, 0]
    shown, hidden = int(np.argmax(fraction > 0)), int(np.argmax(fraction == 0))
    group["class_present"][0, 0, shown] = 0
    group["class_present"][0, 0, hidden] = 1
    words = section(render_report(group, title="a cube"), "gallery")
    assert f"{CLASS_NAMES[shown].replace('_', ' ')} {percent(float(fraction[shown]))}" in words
    assert words.count("not in the multi-label") == 1
    assert f"{CLASS_NAMES[hidden].replace('_', ' ')} 0% not on the map" in words


def test_differing_acquisitions_are_kept_counted_and_listed() -> None:
    group = make_cube()
    group["acquisition_id"][1, 1, 1] = "ANOTHER"
    group["acquisition_time"][1, 1, 1] -= 10 * 86_400_000
    group["status_reason"][1, 1, 1] = StatusReason.ACQUISITION_DIFFERS
    text = render_report(group, title="a cube", num_gallery=1)
    words = section(text, "acquisitions")
    assert "1 of 6 pairs come from different acquisitions. They are kept; 1 carries" in words
    assert "0000001 1 ID_1_1 ANOTHER \N{MINUS SIGN}10.0 days" in words
    assert "complete acquisition differs 1" in section(text, "statuses")
    assert "ANOTHER" in section(text, "gallery")


def test_every_reason_is_explained_by_its_own_meaning() -> None:
    reasons = [reason for reason in StatusReason if reason is not StatusReason.NONE]
    group = make_cube(("s1_grd",), num_locations=6, num_seasons=0)
    places = [(index // 4, index % 4, 0) for index in range(len(reasons))]
    for place, reason in zip(places, reasons, strict=True):
        group["patch_status"][place] = PatchStatus.NO_ACQUISITION
        group["status_reason"][place] = reason
    words = Page(render_report(group, title="t", num_gallery=0)).words()
    for reason in reasons:
        name = reason.name.lower().replace("_", " ")
        assert f"Sentinel-1 GRD no acquisition {name} 1 {reason.meaning}" in words
    assert f"Sentinel-1 GRD pending 1 {PatchStatus.PENDING.meaning}" in words


def test_statuses_are_counted_with_their_reasons() -> None:
    group = make_cube()
    group["patch_status"][0, 0, 2] = PatchStatus.REJECTED
    group["status_reason"][0, 0, 2] = StatusReason.IMPLAUSIBLE_VALUES
    group["patch_status"][1, 0, 2] = PatchStatus.FAILED
    group["status_reason"][1, 0, 2] = 200  # a code of a later release
    words = section(render_report(group, title="a cube", num_gallery=0), "statuses")
    assert "Sentinel-1 GRD 6 4 0 1 1" in words  # pending, complete, none, rejected, failed
    assert "Sentinel-1 GRD rejected implausible values 1" in words
    assert "Sentinel-1 GRD failed code 200 1" in words


def test_missing_picture_says_why() -> None:
    group = make_cube(num_locations=1, num_seasons=1)
    group["patch_status"][0, 0, 2] = PatchStatus.NO_ACQUISITION
    group["status_reason"][0, 0, 2] = StatusReason.NOT_IN_SOURCE
    words = section(render_report(group, title="a cube"), "gallery")
    assert "no acquisition: not in source SAR" in words


def test_georeference_error_is_called_an_estimate() -> None:
    group = make_cube(("dynamic_world",), num_locations=20, num_seasons=1)
    group["georeference_error_m"][:2] = [0, np.nan]
    words = section(render_report(group, title="a cube", num_gallery=0), "locations")
    assert "Georeference error, an estimate" in words
    assert "given by the provider 1" in words
    assert "recovered, error estimated 18" in words
    assert "not known 1" in words


def test_details_and_warnings_are_shown(cube: zarr.Group) -> None:
    warnings = [f"warning {n} of many" for n in range(60)]
    details = {"label_orphans": 4, "warnings": warnings}
    page = Page(render_report(cube, title="a", num_gallery=0, details=details))
    assert "label orphans 4" in page.words()
    assert "60 warnings from the build, the first 50:" in page.words()
    assert "warning 49 of many" in page.words()
    assert "warning 50 of many" not in page.words()


# --- any cube ----------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCT_NAMES)
def test_cube_of_one_product_is_reported(product: ProductName) -> None:
    page = Page(render_report(make_cube((product,), num_locations=2), title="a cube"))
    assert page.count("img") == 4 * (2 if product in {"s2_l1c", "s2_l2a"} else 1)
    has_bands = page.count("section", id="bands") == 1
    assert has_bands == (product != "dynamic_world")


def test_cube_without_labels_is_reported() -> None:
    text = render_report(make_cube(("s2_l1c", "s1_grd")), title="a cube", num_gallery=1)
    assert "there are no class frequencies" in section(text, "classes")
    assert "No patch has class fractions" in section(text, "fractions")
    assert "there is nothing to compare" in section(text, "agreement")


def test_presence_without_fractions_is_reported() -> None:
    group = make_cube(("s2_l1c",), num_locations=1, num_seasons=1)
    group["class_present"][0, 0] = [1, 1, 0, 0, 0, 0, 0, 0, 0]
    group["label_status"][0, 0] = LabelStatus.LABELLED
    text = render_report(group, title="a cube")
    assert "water 1 100% no label map" in section(text, "classes")
    assert "presence only, no fractions" in section(text, "gallery")


def test_cube_without_any_patch_is_reported() -> None:
    group = describe(describe_cube(5)).group.to_zarr(MemoryStore(), "")
    text = render_report(group, title="a cube")
    assert "No patch to show" in section(text, "gallery")
    assert "5 locations have no coordinates" in section(text, "locations")
    assert "No acquisition time is known" in section(text, "acquisitions")
    assert "Sentinel-2 L1C 20 0 0 0 0" in section(text, "statuses")


def test_unsealed_cube_is_called_unsealed_and_its_statistics_a_sample(page_text: str) -> None:
    assert "This cube is not sealed" in Page(page_text).words()
    assert "From 6 gallery patches only" in section(page_text, "bands")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "cube.zarr"
    storage = ObjectStorage(str(folder))
    build_cube(storage, describe_cube(3), location_names(3), lambda _batch: SyntheticSource())
    seal_cube(storage)
    return folder


def test_sealed_cube_shows_digest_and_statistics_of_all_pixels(sealed: Path) -> None:
    group = PatchStore.open(ObjectStorage(str(sealed))).group
    text = render_report(group, title="a cube", num_gallery=1)
    words = Page(text).words()
    assert "not sealed" not in words
    assert str(group.attrs["digest"]) in words
    assert "Counted by sealing" in section(text, "classes")
    assert "sealing computes" not in section(text, "bands")
    stored = group["s2_l1c_10m"][:, :, 0].astype(np.float64)
    valid = (group["s2_l1c_10m"][:] != 0).any(axis=2)
    mean, std = stored[valid].mean(), stored[valid].std()
    first_band = section(text, "bands").partition("B2 10 m")[2].partition("B3 10 m")[0]
    assert f"cube {mean:,.0f} ± {std:.1f} published 1,391 ± 850.4 shift" in first_band


def test_bucket_and_folder_give_the_same_page(sealed: Path, cube_address: str) -> None:
    storage = ObjectStorage(cube_address)
    build_cube(storage, describe_cube(3), location_names(3), lambda _batch: SyntheticSource())
    seal_cube(storage)
    pages = [
        render_report(PatchStore.open(place).group, title="a cube", num_gallery=1)
        for place in (storage, ObjectStorage(str(sealed)))
    ]
    assert pages[0] == pages[1]


def test_counts_of_sealing_and_of_the_report_agree(sealed: Path) -> None:
    group = PatchStore.open(ObjectStorage(str(sealed))).group
    arrays = read_small_arrays(group)
    by_sealing = class_statistics(arrays, dict(group.attrs)["class_statistics"])
    by_report = class_statistics(arrays, None)
    assert by_sealing.num_labelled == by_report.num_labelled
    assert by_sealing.cooccurrence == by_report.cooccurrence
    for ours, theirs in zip(by_report.rows, by_sealing.rows, strict=True):
        assert (ours.num_present, ours.num_pixels) == (theirs.num_present, theirs.num_pixels)
        assert ours.mean_fraction == pytest.approx(theirs.mean_fraction)


def test_cube_changed_after_sealing_is_called_changed(sealed: Path) -> None:
    group = PatchStore.open(ObjectStorage(str(sealed))).group
    assert 'id="seal-mismatch"' not in render_report(group, title="a", num_gallery=0)
    copy = MemoryStore()
    changed = describe(describe_cube(3)).group.to_zarr(copy, "")
    changed.attrs.put(dict(group.attrs))
    page = Page(render_report(changed, title="a", num_gallery=0))
    assert "This cube has changed since it was sealed" in page.words()


def test_other_radiometric_convention_is_pointed_out() -> None:
    group = make_cube(
        ("s2_l1c",), num_locations=1, radiometric_convention={"s2_l1c": "with the +1000 offset"}
    )
    words = section(render_report(group, title="a cube"), "bands")
    assert "Convention: with the +1000 offset. This is not the convention" in words


def test_pictures_stop_where_the_page_would_grow_too_large(
    cube: zarr.Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "_MAX_PICTURE_BYTES", 300_000)
    text = render_report(cube, title="a cube")
    assert 0 < Page(text).count("article") < 6
    assert len(text) < 700_000


# --- written whole, or not at all ----------------------------------------------------------------


def test_failed_write_leaves_the_older_page_and_no_part(
    cube: zarr.Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.html"
    out.write_text("older page")

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(LimitReachedError, match="the disk is full"):
        write_report(cube, out, title="a cube", num_gallery=0)
    assert out.read_text() == "older page"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_destination_is_only_ever_renamed_onto(
    cube: zarr.Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "page.html", []
    rename = Path.replace

    def watch(part: Path, target: Path) -> Path:
        seen.append((out.exists(), part.parent == out.parent, part.read_text().rstrip()[-7:]))
        return rename(part, target)

    monkeypatch.setattr(Path, "replace", watch)
    write_report(cube, out, title="a cube", num_gallery=0)
    assert seen == [(False, True, "</html>")]
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_user_errors_are_said_in_a_sentence(cube: zarr.Group, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write_report(cube, tmp_path, title="a")
    with pytest.raises(InputError, match="does not exist; create it first"):
        write_report(cube, tmp_path / "nowhere" / "page.html", title="a")
    with pytest.raises(InputError, match="num_gallery is -1"):
        write_report(cube, tmp_path / "page.html", title="a", num_gallery=-1)
    other = zarr.create_group(MemoryStore())
    other.create_array("location_id", shape=(1,), dtype="uint8")
    with pytest.raises(InputError, match="not a softcon-cube"):
        write_report(other, tmp_path / "page.html", title="a")
    assert not list(tmp_path.iterdir())


def test_damaged_bytes_are_named(sealed: Path, tmp_path: Path) -> None:
    store = LocalStore(sealed)
    chunk = min(p for p in (sealed / "class_fraction" / "c").rglob("*") if p.is_file())
    before = chunk.read_bytes()
    try:
        chunk.write_bytes(before[:-4] + os.urandom(4))
        with pytest.raises(CubeDamagedError, match="class_fraction cannot be read"):
            write_report(zarr.open_group(store, mode="r"), tmp_path / "page.html", title="a")
    finally:
        chunk.write_bytes(before)
    assert not list(tmp_path.iterdir())


# --- the choice of patches -----------------------------------------------------------------------


def test_gallery_shows_each_patch_once_and_every_class() -> None:
    group = make_cube(("dynamic_world",), num_locations=12)
    arrays = read_small_arrays(group)
    chosen = choose_patches(arrays, 12)
    assert len(set(chosen)) == 12
    assert list(chosen) == sorted(chosen)
    assert len({location for location, _ in chosen}) == 12
    fraction = arrays.class_fraction
    assert all(any(fraction[n, s, c] > 0 for n, s in chosen) for c in range(9))
    assert len(choose_patches(arrays, 100)) == 24
    assert choose_patches(arrays, 0) == ()


def test_gallery_shows_a_contradicting_patch_first() -> None:
    group = make_cube(("s2_l1c", "s2_l2a"), num_locations=9)
    group["status_reason"][7, 1, 1] = StatusReason.ACQUISITION_DIFFERS
    assert choose_patches(read_small_arrays(group), 1) == ((7, 1),)


def test_gallery_prefers_patches_with_every_product() -> None:
    group = make_cube(("s2_l1c", "s1_grd"), num_locations=4, num_seasons=1)
    group["patch_status"][:3, 0, 1] = PatchStatus.FAILED
    assert choose_patches(read_small_arrays(group), 1) == ((3, 0),)


# --- numbers and figures -------------------------------------------------------------------------


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.integers(1, 4), st.just(9)),
        elements=st.one_of(
            st.just(np.nan),
            st.sampled_from([float(np.float32(e)) for e in FRACTION_EDGES]),
            st.floats(0, 1, width=32),
        ),
    )
)
@settings(max_examples=30)
def test_fraction_distribution_matches_a_plain_count(fraction: np.ndarray) -> None:
    edges = np.asarray(FRACTION_EDGES, dtype=np.float32)
    for index, found in enumerate(fraction_distributions(fraction)):
        values = [v for v in fraction[..., index].ravel() if v > 0]
        plain = tuple(sum(bool(low < v <= high) for v in values) for low, high in pairwise(edges))
        assert found.counts == plain


def test_class_counts_match_a_plain_count(cube: zarr.Group) -> None:
    present = cube["class_present"][:].reshape(-1, 9) == 1
    found = class_statistics(read_small_arrays(cube), None)
    for i in range(9):
        for j in range(9):
            assert found.cooccurrence[i][j] == sum(p[i] and p[j] for p in present)
        label = cube["dynamic_world_label"][:]
        assert found.rows[i].num_pixels == int((label == i).sum())


def test_many_locations_become_a_density_of_all_of_them() -> None:
    rng = np.random.default_rng(3)
    longitude, latitude = rng.uniform(-180, 180, 100_000), rng.uniform(-60, 84, 100_000)
    drawn = world_map(longitude, latitude, ["train"] * 100_000)
    assert drawn.is_density
    assert "<circle" not in drawn.world
    assert 'href="data:image/png' in drawn.world
    assert len(drawn.world) < 300_000
    few = world_map(longitude[:500], latitude[:500], ["train"] * 250 + ["test"] * 250)
    assert few.world.count("<circle") == 500
    assert [name for name, _ in few.legend] == ["train", "test"]


def test_location_on_the_edge_of_the_world_is_drawn() -> None:
    longitude = np.tile([180.0, -180.0, 0.0, 0.0], 600)
    latitude = np.tile([0.0, 84.0, -90.0, -60.0], 600)
    drawn = world_map(longitude, latitude, ["train"] * 2400)
    found = re.search(r"base64,([^\"]+)", drawn.world)
    assert found
    shade = np.asarray(Image.open(BytesIO(b64decode(found[1]))))
    assert shade.shape[1] == 720  # cells of half a degree
    assert shade[168, 719] == shade[0, 0] == shade[348, 360] == shade[288, 360] > 0
    assert np.count_nonzero(shade) == 4


def test_locations_near_each_other_get_a_map_of_their_own() -> None:
    near = world_map(np.array([10.0, 10.1]), np.array([50.0, 50.1]), ["train"] * 2)
    assert near.close_up is not None
    assert not near.close_up_has_land
    assert near.close_up.count("<circle") == 2
    wide = world_map(np.array([10.0, 30.0]), np.array([50.0, 40.0]), ["train"] * 2)
    assert wide.close_up is not None
    assert wide.close_up_has_land
    assert 'class="land"' in wide.close_up
    assert world_map(np.array([-100.0, 100.0]), np.zeros(2), ["train"] * 2).close_up is None


@given(st.integers(0, 10**7))
def test_density_shades_start_at_one_and_rise(largest: int) -> None:
    breaks = density_breaks(np.asarray([0, largest]))
    assert breaks[0] == 1
    assert list(breaks) == sorted(set(breaks))
    assert breaks[-1] <= max(largest, 1)


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(2, 8))
def test_ticks_are_few_and_lie_on_the_axis(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in found)


def test_timeline_without_dates_is_left_out() -> None:
    assert timeline([], ["slot 0"]) is None


def test_hostile_text_in_a_figure_is_escaped() -> None:
    row = TimelineRow(HOSTILE, np.array([0]), np.array([0]))
    drawn = timeline([row], [HOSTILE])
    assert drawn is not None
    assert "<script" not in drawn
    assert Page(str(drawn)).text.count(HOSTILE) == 2


def test_unknown_times_are_not_drawn() -> None:
    group = make_cube(("s2_l1c",), num_locations=2)
    group["acquisition_time"][:] = NO_TIME
    text = render_report(group, title="a cube", num_gallery=0)
    assert "No acquisition time is known" in section(text, "acquisitions")
    assert "1970" not in text


def test_stretch_spans_the_stated_percentiles_and_paints_missing_pixels() -> None:
    band = np.arange(10_000, dtype=np.float64).reshape(100, 100)
    valid = np.ones((100, 100), dtype=bool)
    valid[0, 0] = False
    picture = stretch(np.stack([band] * 3), valid, min_range=250.0)
    assert tuple(picture[0, 0]) == tuple(bytes.fromhex(NO_DATA_COLOUR[1:]))
    # 2 % of the pixels lie below the darkest shade's limit and 2 % above the brightest's.
    assert (picture[valid][:, 0] == 0).mean() == pytest.approx(0.02, abs=0.003)
    assert (picture[valid][:, 0] == 255).mean() == pytest.approx(0.02, abs=0.003)


def test_flat_picture_is_not_stretched_into_noise() -> None:
    rng = np.random.default_rng(0)
    water = 100 + rng.integers(0, 4, (3, 50, 50)).astype(np.float64)
    picture = stretch(water, np.ones((50, 50), dtype=bool), min_range=250.0)
    assert np.ptp(picture) <= 4


def test_picture_without_a_valid_pixel_is_all_missing() -> None:
    picture = stretch(np.zeros((3, 4, 4)), np.zeros((4, 4), dtype=bool), min_range=1.0)
    assert (picture == list(bytes.fromhex(NO_DATA_COLOUR[1:]))).all()


def test_sample_statistics_leave_out_missing_pixels() -> None:
    pixels: Mapping[str, Any] = {"s1_grd": np.full((2, 264, 264), -1200, dtype=np.int16)}
    pixels["s1_grd"][1] = -32768
    vv, vh = sample_statistics("s1_grd", "s1_grd", [pixels])
    assert vv is not None
    assert vv.mean == pytest.approx(-12.0)
    assert vv.counts.sum() == vv.num_valid_pixels == 264 * 264
    assert vh is None


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (1e-6, "< 0.1%"),
        (0.12345, "12.3%"),
        (0.99999, "> 99.9%"),
        (1.0, "100%"),
        (None, "unknown"),
    ],
)
def test_percentage_never_rounds_something_to_nothing(share: float | None, text: str) -> None:
    assert percent(share) == text


# --- real data -----------------------------------------------------------------------------------


def test_real_sample_is_reported(real_data: Path, tmp_path: Path) -> None:
    from pipeline.build.rebuild import rebuild_cube
    from pipeline.sources.ssl4eo_s12.settings import ImportSettings

    sample = real_data / "ssl4eo_s12_sample"
    storage = ObjectStorage(str(tmp_path / "cube.zarr"))
    labels = sample / "ssl4eo_s12_ml_sample.json"
    rebuild_cube(ImportSettings(root=str(sample), cube=str(storage), labels=str(labels)))
    seal_cube(storage)
    out = tmp_path / "page.html"
    write_report(PatchStore.open(storage).group, out, title="SSL4EO-S12 sample")
    text = out.read_text()
    assert 300_000 < len(text) < 2_000_000
    assert Page(text).count("img") == 2 * 5
    words = section(text, "acquisitions")
    assert "1 of 2 pairs come from different acquisitions" in words
    assert "20200823T054639_20200823T055618_T43RCP" in words
    assert "20200813T054639_20200813T054952_T43RCP" in words
    assert "contains modified Copernicus Sentinel data 2020" in section(text, "licences")
    # Derived with numpy from dw/0000200/20200604.../label.tif: 59,117 of 69,696 pixels are crops.
    assert "crops 84.8%" in section(text, "gallery")


def test_sar_speckle_is_averaged_in_power_and_no_data_takes_no_part() -> None:
    rng = np.random.default_rng(0)
    speckle = rng.exponential(size=(2, 264, 264)) * np.array([0.1, 0.02])[:, None, None]
    pixels = np.rint(1000 * np.log10(speckle)).astype(np.int16)
    pixels[:, :, 132:] += 1500  # two fields, 15 dB apart
    pixels[:, :20] = -32768
    picture = sar_picture("s1_grd", pixels).astype(np.float64)
    left, right = picture[30:, :125, 0], picture[30:, 140:, 0]
    # One look alone has a spread of 5.6 dB, a third of the step; 25 looks have one of 0.9 dB.
    assert left.std() + right.std() < 0.25 * (right.mean() - left.mean())
    # Next to the no-data border the field is as bright as inside it.
    assert abs(picture[20:22, :125, 0].mean() - left.mean()) < 3 * left.std() / np.sqrt(5)
