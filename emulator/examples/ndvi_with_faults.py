"""NDVI of some fields in four months, from a service that fails on purpose.

    python examples/ndvi_with_faults.py

The client asks again after a rate limit or an unavailable service, so the values are those of a
service without faults.
"""

from __future__ import annotations

import sys

import ee
import requests
from google.auth.credentials import AnonymousCredentials

from earth_engine_emulator.faults import FaultSettings, Probabilities
from earth_engine_emulator.running import emulator_in_process
from earth_engine_emulator.settings import EmulatorSettings

WEST_OF_MUNICH = (11.20, 48.14, 11.22, 48.15)
FAULTS = FaultSettings(
    seed=2, probabilities=Probabilities(too_many_requests=0.2, unavailable_html=0.1)
)


def mean_ndvi(region: ee.Geometry, start: str, end: str) -> float:
    """Return the mean NDVI of a region in the least cloudy image of a period."""
    image = (
        ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED")
        .filterBounds(region)
        .filterDate(start, end)
        .sort("CLOUDY_PIXEL_PERCENTAGE")
        .first()
    )
    ndvi = image.normalizedDifference(["B8", "B4"])
    mean = ndvi.reduceRegion(ee.Reducer.mean(), region, scale=10)
    return float(mean.getNumber("nd").getInfo())


def main() -> None:
    """Print a line per month, then how many requests failed."""
    with emulator_in_process(EmulatorSettings(faults=FAULTS)) as emulator:
        ee.Initialize(AnonymousCredentials(), project="emulator", url=emulator.url)
        region = ee.Geometry.Rectangle(WEST_OF_MUNICH)
        for month in ("2021-01", "2021-04", "2021-07", "2021-10"):
            sys.stdout.write(f"{month} {mean_ndvi(region, f'{month}-01', f'{month}-28'):.3f}\n")
        faults = requests.get(f"{emulator.url}/emulator/faults", timeout=10).json()
        sys.stdout.write(f"failed requests: {sum(faults['counts'].values())}\n")


if __name__ == "__main__":
    main()
