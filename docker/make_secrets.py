"""Make the stack's secrets, once: each in a file of the volume /secrets.

Nothing has a default password, and none is in an image or a file of the project. Services read the
files through ``with_secrets.py``; only they have the volume.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "/secrets")


def keep(name: str, value: str) -> str:
    """Write a secret unless there is one; return what is there."""
    path = FOLDER / name
    if not path.exists():
        # By hand: the mode has to be right before the name appears.
        partial = path.with_suffix(".partial")
        partial.write_text(value)
        # The services run under several users; the volume is mounted into them alone.
        partial.chmod(0o444)
        partial.replace(path)
    return path.read_text()


keep("postgres_password", secrets.token_urlsafe(32))
keep("prefect_auth", f"softcon:{secrets.token_urlsafe(24)}")
access_key = keep("s3_access_key", secrets.token_hex(10))
secret_key = keep("s3_secret_key", secrets.token_urlsafe(32))
keep(
    "s3.json",
    json.dumps(
        {
            "identities": [
                {
                    "name": "softcon",
                    "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ]
        }
    ),
)
sys.stdout.write(f"secrets are in {FOLDER}\n")
