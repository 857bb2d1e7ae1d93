"""Run a command with the stack's secrets in its environment: no compose file shows them there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path("/secrets")


def read(name: str) -> str | None:
    """Return a secret; None where the volume is not mounted."""
    path = FOLDER / name
    return path.read_text().strip() if path.exists() else None


found = {
    "AWS_ACCESS_KEY_ID": read("s3_access_key"),
    "AWS_SECRET_ACCESS_KEY": read("s3_secret_key"),
    "PREFECT_API_AUTH_STRING": read("prefect_auth"),
}
if host := os.environ.get("SOFTCON_POSTGRES_HOST"):
    found["PREFECT_SERVER_API_AUTH_STRING"] = read("prefect_auth")
    found["PREFECT_API_DATABASE_CONNECTION_URL"] = (
        f"postgresql+asyncpg://prefect:{read('postgres_password')}@{host}:5432/prefect"
    )
environment = {**os.environ, **{name: value for name, value in found.items() if value}}
os.execvpe(sys.argv[1], sys.argv[1:], environment)  # noqa: S606
