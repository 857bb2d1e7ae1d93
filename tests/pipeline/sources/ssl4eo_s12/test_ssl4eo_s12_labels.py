"""The label file of SSL4EO-S12-ML, and labels on seasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundwork.errors import InputError
from pipeline.patches import Acquisition, LocationPatches, ProductPatch, SeasonPatches
from pipeline.sources.ssl4eo_s12.labels import attach_labels, read_labels, write_labels
from storage_schema.land_cover import LabelStatus
from storage_schema.status import PatchStatus, StatusReason

NOTHING = ProductPatch(PatchStatus.NO_ACQUISITION, StatusReason.NOT_IN_SOURCE)


def patch(image_id: str, status: PatchStatus = PatchStatus.COMPLETE) -> ProductPatch:
    return ProductPatch(status, acquisition=Acquisition(image_id))


def location(*seasons: SeasonPatches) -> LocationPatches:
    return LocationPatches("0000200", 0.0, 0.0, 32631, 0.0, 0.0, 10.0, seasons)


def label_of(labels, season=None):
    season = season or SeasonPatches({"s2_l1c": patch("A"), "s2_l2a": patch("B")})
    return attach_labels(location(season), labels).seasons[0].label


def test_the_published_sample_round_trips_byte_for_byte(real_data: Path, tmp_path: Path):
    sample = real_data / "ssl4eo_s12_sample" / "ssl4eo_s12_ml_sample.json"
    write_labels(tmp_path / "labels.json", read_labels(sample))
    assert (tmp_path / "labels.json").read_bytes() == sample.read_bytes()


@given(
    st.dictionaries(
        st.from_regex(r"\A[0-9]{7}\Z"),
        st.dictionaries(
            st.from_regex(r"\A[0-9T_]{3,20}\Z"), st.lists(st.sampled_from("012345678"))
        ),
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    write_labels(path, labels)
    assert read_labels(path) == labels


def test_keys_are_written_sorted_whatever_their_order(tmp_path: Path):
    write_labels(tmp_path / "a.json", {"2": {"b": ["1"], "a": []}, "1": {}})
    write_labels(tmp_path / "b.json", {"1": {}, "2": {"a": (), "b": ("1",)}})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    assert text == '{\n "1": {},\n "2": {\n  "a": [],\n  "b": [\n   "1"\n  ]\n }\n}'


def test_writing_leaves_no_partial_file(tmp_path: Path):
    write_labels(tmp_path / "labels.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


def test_integer_class_ids_are_accepted(tmp_path: Path):
    (tmp_path / "labels.json").write_text('{"1": {"A": [0, "4"]}}')
    assert read_labels(tmp_path / "labels.json") == {"1": {"A": ["0", "4"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0000200": {', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        ("[]", "the whole file is .*not an object of locations"),
        ('{"0000200": []}', "location 0000200 is .*not an object of seasons"),
        ('{"0000200": {"A": "4"}}', 'location 0000200, season A is "4", not a list'),
        ('{"0000200": {"A": [true]}}', "location 0000200, season A"),
        ('{"0000200": {"A": [1.5]}}', "location 0000200, season A"),
    ],
)
def test_a_broken_label_file_is_an_input_error_that_names_it(tmp_path: Path, content, message):
    path = tmp_path / "labels.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_a_missing_label_file_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_labels(tmp_path / "none.json")


def test_listed_classes_are_present_and_the_others_absent():
    label = label_of({"A": ["0", "8", "4"]})
    assert label.status is LabelStatus.LABELLED
    assert label.class_present.dtype == np.uint8
    assert label.class_present.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_an_empty_list_means_no_label():
    assert label_of({"A": []}).status is LabelStatus.EMPTY_LIST
    assert label_of({"A": []}).class_present is None


@pytest.mark.parametrize("labels", [None, {}, {"other": ["1"]}])
def test_a_season_or_location_that_is_not_in_the_file_has_its_own_status(labels):
    assert label_of(labels).status is LabelStatus.ABSENT_FROM_FILE


@pytest.mark.parametrize("bad", ["9", "-1", "04", "water", ""])
def test_an_unknown_class_id_is_counted_and_named_and_spoils_only_its_season(bad):
    seasons = [SeasonPatches({"s2_l1c": patch("A")}), SeasonPatches({"s2_l1c": patch("B")})]
    labelled = attach_labels(location(*seasons), {"A": ["1", bad], "B": ["1"]})
    assert [season.label.status for season in labelled.seasons] == [
        LabelStatus.UNKNOWN_CLASS,
        LabelStatus.LABELLED,
    ]
    assert labelled.notes["unknown_label_class"] == 1
    (sentence,) = labelled.warnings
    assert all(part in sentence for part in ("0000200", "season A", repr(bad)))


def test_labels_are_filed_under_the_l1c_image_even_if_its_pixels_are_unusable():
    season = SeasonPatches({"s2_l1c": patch("A", PatchStatus.FAILED), "s2_l2a": patch("B")})
    assert label_of({"A": ["1"], "B": ["2"]}, season).class_present.tolist()[1] == 1


def test_labels_are_filed_under_the_l2a_image_where_there_is_no_l1c():
    for season in (
        SeasonPatches({"s2_l2a": patch("B")}),
        SeasonPatches({"s2_l1c": NOTHING, "s2_l2a": patch("B")}),
    ):
        assert label_of({"B": ["2"]}, season).status is LabelStatus.LABELLED


def test_a_season_with_radar_only_has_no_label():
    season = SeasonPatches({"s1_grd": patch("S1")})
    assert label_of({"S1": ["2"]}, season).status is LabelStatus.ABSENT_FROM_FILE


def test_entries_for_seasons_that_were_not_read_are_counted():
    labelled = attach_labels(
        location(SeasonPatches({"s2_l1c": patch("A")})), {"A": [], "X": ["1"], "Y": []}
    )
    assert labelled.notes["labels_without_season"] == 2
