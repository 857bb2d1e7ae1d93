"""The two questions of the service: what is this value, and what are this image's pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from earth_engine_emulator.expressions import (  # noqa: F401  (each registers its algorithms)
    collection_algorithms,
    filter_algorithms,
    geometry_algorithms,
    image_algorithms,
    image_expressions,
    image_math,
    plain_algorithms,
    regions,
)
from earth_engine_emulator.expressions.encoding import encode
from earth_engine_emulator.expressions.errors import AlgorithmError, ServiceError
from earth_engine_emulator.expressions.graph import Graph
from earth_engine_emulator.expressions.pixels import PixelReply, compute_pixels
from earth_engine_emulator.expressions.session import Session
from earth_engine_emulator.limits import Limits
from earth_engine_emulator.worlds import World


def compute_value(world: World, limits: Limits, body: Mapping[str, Any]) -> dict[str, Any]:
    """Answer ``value:compute``.

    Raises:
        ServiceError: the service would refuse the request.
    """
    session = Session(world, limits)
    # Not-a-number and overflow are values here, as in the service.
    with np.errstate(all="ignore"):
        try:
            value = Graph(body.get("expression"), session).evaluate()
            return {"result": encode(value, limits.max_elements)}
        except AlgorithmError as error:
            raise ServiceError(str(error)) from error


def compute_image(world: World, limits: Limits, body: Mapping[str, Any]) -> PixelReply:
    """Answer ``image:computePixels``.

    Raises:
        ServiceError: the service would refuse the request.
    """
    session = Session(world, limits)
    with np.errstate(all="ignore"):
        try:
            return compute_pixels(session, Graph(body.get("expression"), session).evaluate(), body)
        except AlgorithmError as error:
            raise ServiceError(str(error)) from error


def asset_pixels(
    world: World, limits: Limits, asset_id: str, body: Mapping[str, Any]
) -> PixelReply:
    """Answer ``assets:getPixels``.

    Raises:
        ServiceError: the service would refuse the request.
    """
    session = Session(world, limits)
    with np.errstate(all="ignore"):
        try:
            return compute_pixels(session, session.load_image(asset_id), body)
        except AlgorithmError as error:
            raise ServiceError(str(error)) from error
