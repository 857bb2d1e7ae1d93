"""Every code says what it means, and its number and name are those of the format."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from storage_schema.land_cover import LabelStatus
from storage_schema.status import (
    Coded,
    OrbitPass,
    PatchStatus,
    Split,
    StatusReason,
    flag_attributes,
)

ENUMERATIONS = (PatchStatus, StatusReason, OrbitPass, Split, LabelStatus)


@pytest.mark.parametrize("codes", ENUMERATIONS)
def test_every_code_has_a_meaning_of_its_own(codes: type[Coded]) -> None:
    meanings = [code.meaning for code in codes]
    assert all(len(meaning.split()) > 1 for meaning in meanings)
    assert len(set(meanings)) == len(meanings)


def test_every_enumeration_of_codes_is_among_those() -> None:
    assert set(Coded.__subclasses__()) == set(ENUMERATIONS)


def test_numbers_and_names_are_those_of_the_format() -> None:
    # Stored in every cube since schema version 1: a change here is a change of the format.
    assert flag_attributes(PatchStatus) == {
        "flag_values": [0, 1, 2, 3, 4],
        "flag_meanings": "pending complete no_acquisition rejected failed",
    }
    assert [int(code) for code in StatusReason] == list(range(24))
    assert StatusReason(21).name == "OTHER_ORBIT_PASS"
    assert LabelStatus(np.uint8(4)) is LabelStatus.MASKED


def test_a_code_is_a_number_and_travels() -> None:
    assert pickle.loads(pickle.dumps(StatusReason.NO_L2A)) is StatusReason.NO_L2A
    assert np.isin([1, 9], list(PatchStatus)).tolist() == [True, False]
    assert PatchStatus.COMPLETE == 1
