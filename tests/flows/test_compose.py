"""The compose stack as it is written; `make compose-offline-test` brings it up."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = (ROOT / "docker-compose.yml", DOCKER / "compose.offline.yml")
OUR_IMAGES = ("softcon-cube:latest", "softcon-cube:gpu", "softcon-postgres:offline")
"""Their Dockerfiles end as another user than root."""
SERVICES = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))["services"]
LONG_RUNNING = [name for name, one in SERVICES.items() if one.get("restart") == "unless-stopped"]


@functools.cache
def compose() -> str | None:
    """Return the program of docker where it has the plugin compose."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    asked = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return docker if asked.returncode == 0 else None


@pytest.mark.parametrize("profiles", ["emulator", "earth-engine", "emulator,gpu"])
@pytest.mark.parametrize("files", [FILES[:1], FILES], ids=["registry", "offline"])
def test_config_is_clean(profiles: str, files: tuple[Path, ...]) -> None:
    docker = compose()
    if docker is None:
        pytest.skip("no docker compose: install docker with its plugin compose")
    chosen = [argument for file in files for argument in ("-f", str(file))]
    done = subprocess.run(
        [docker, "compose", *chosen, "config", "--quiet"],
        env={"PATH": str(Path(docker).parent), "HOME": str(Path.home())}
        | {"COMPOSE_PROFILES": profiles},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_long_running_services_are_these() -> None:
    one_shot = {"init", "bucket", "deploy", "deploy-earth-engine"}
    assert set(SERVICES) == {*LONG_RUNNING, *one_shot}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert SERVICES[name].get("network_mode") in {None, "none"}


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if service["image"] not in OUR_IMAGES:
        assert re.fullmatch(r"postgres|[1-9]\d+:[1-9]\d+", service["user"])


@pytest.mark.parametrize("file", sorted(DOCKER.glob("*Dockerfile")), ids=lambda f: f.name)
def test_images_are_not_roots(file: Path) -> None:
    users = re.findall(r"(?m)^USER (\S+)$", file.read_text(encoding="utf-8"))
    assert users
    assert users[-1] in {"softcon", "postgres"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_health_is_asked_for(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_dependencies_have_a_condition() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            ready = "healthy" if needed in LONG_RUNNING else "completed_successfully"
            assert how["condition"] == f"service_{ready}"


@pytest.mark.parametrize("file", [*FILES, ROOT / ".env"], ids=lambda f: f.name)
def test_no_password_is_in_a_file(file: Path) -> None:
    for where, value in leaves(yaml.safe_load(file.read_text(encoding="utf-8")), ""):
        said = re.search(r"(?i)passw|secret_access_key|auth_string|token|://[^/]+:[^/]+@", where)
        assert said is None or where.endswith("_FILE"), where
        assert not re.search(r"(?i)password=|://[^/\s]+:[^/\s]+@|auth_string=", str(value)), where


def test_secrets_are_made_anew_and_once(tmp_path: Path) -> None:
    make = [sys.executable, str(DOCKER / "make_secrets.py")]
    made: list[dict[str, str]] = []
    for folder in ("one", "one", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        done = subprocess.run(
            [*make, str(tmp_path / folder)], capture_output=True, text=True, check=True
        )
        made.append({file.name: file.read_text() for file in (tmp_path / folder).iterdir()})
        assert not [name for name, value in made[-1].items() if value in done.stdout + done.stderr]
    first, again, other = made
    assert first == again
    assert not set(first.values()) & set(other.values())
    assert all(len(value) >= 20 for value in first.values())


def test_scripts_are_clean() -> None:
    shellcheck = shutil.which("shellcheck", path=str(ROOT / ".venv" / "bin")) or shutil.which(
        "shellcheck"
    )
    if shellcheck is None:
        pytest.skip("no shellcheck: make setup installs it")
    scripts = sorted(map(str, DOCKER.glob("*.sh")))
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def leaves(value: Any, where: str) -> list[tuple[str, Any]]:
    """Return every value of a document with the path of its names."""
    if isinstance(value, dict):
        return [leaf for name, one in value.items() for leaf in leaves(one, f"{where}/{name}")]
    if isinstance(value, list):
        return [leaf for one in value for leaf in leaves(one, where)]
    return [(where, value)]
