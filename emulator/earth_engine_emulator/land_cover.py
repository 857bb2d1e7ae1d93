"""The classes of Dynamic World V1, in the order of its label band: a label is an index into them.

Source: Earth Engine catalogue, GOOGLE/DYNAMICWORLD/V1.
"""

from __future__ import annotations

from typing import Final

CLASS_NAMES: Final = (
    "water",
    "trees",
    "grass",
    "flooded_vegetation",
    "crops",
    "shrub_and_scrub",
    "built",
    "bare",
    "snow_and_ice",
)
