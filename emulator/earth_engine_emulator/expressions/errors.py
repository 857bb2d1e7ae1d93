"""Refusals, in the service's wording where that is known."""

from __future__ import annotations

from typing import Any


class ServiceError(Exception):
    """A refusal that the client sees as an error reply.

    Args:
        message: as the service words it.
        code: HTTP status.
        status: the service's name of it.
    """

    def __init__(self, message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status

    def as_json(self) -> dict[str, Any]:
        """Return the body of the error reply."""
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


class AlgorithmError(Exception):
    """An algorithm refuses its arguments; the caller puts the algorithm's name in front."""


def not_found(what: str) -> ServiceError:
    """Return the error of an asset that does not exist, as the asset endpoints word it."""
    return ServiceError(
        f"{what} not found (does not exist or caller does not have access).", 404, "NOT_FOUND"
    )
