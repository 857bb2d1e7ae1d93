"""The sources a cube can be filled from, by name.

A source registers one `SourceKind`. Builds and forecasts ask it and know no source by name; the
module of a source is imported when it is first asked for, so that ``--help`` needs no client of any
service. Other packages register theirs with `register`, or by an entry point of the group
``softcon_cube.sources``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

from pydantic import (
    BaseModel,
    Discriminator,
    GetCoreSchemaHandler,
    Tag,
    ValidationError,
)
from pydantic_core import CoreSchema

from groundwork.errors import InputError
from groundwork.settings_text import read_settings, sentence_of
from pipeline.patches import SourceOfBatch
from pipeline.places.settings import KINDS
from pipeline.sources.settings import BudgetSettings, BuildSettings, ExecutionSettings
from storage_schema.layout import CubeDescription

if TYPE_CHECKING:
    from distributed import Client

ENTRY_POINTS: Final = "softcon_cube.sources"
_OURS: Final = {
    "earth_engine": "pipeline.sources.earth_engine.registration",
    "ssl4eo_s12": "pipeline.sources.ssl4eo_s12.registration",
}
_DEFAULT: Final = "earth_engine"
"""Whose settings a configuration without any source's section is measured against."""


class SettingsOfBuild(Protocol):
    """What a build reads from the settings of any source."""

    @property
    def cube(self) -> str:
        """Folder or s3://bucket/prefix to write."""
        ...

    @property
    def execution(self) -> ExecutionSettings:
        """How the work is spread."""
        ...

    @property
    def budget(self) -> BudgetSettings:
        """Where to stop."""
        ...


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a source has for a cube.

    Args:
        description: what the cube is made of; nothing in it depends on how it is executed.
        location_ids: one per location, in order.
        source_of_batch: makes the source of a batch's locations; called late, in the builder.
        prepare_cluster: called with a Dask client before the first batch, for what its workers have
            to share; None where they share nothing.
        counts: added to the counts of the build.
    """

    description: CubeDescription
    location_ids: Sequence[str]
    source_of_batch: SourceOfBatch
    prepare_cluster: Callable[[Client], None] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What a build asks of a provider if every season of every location has its image.

    Args:
        num_requests: to the service.
        num_bytes: of replies, before compression by HTTP.
        max_in_flight: requests that may be under way at once.
        max_requests_per_s: requests that may begin within a second.
        compute_unit: what the provider counts compute in, hours of it.
        monthly_compute: tier -> compute of a month in that unit.
    """

    num_requests: int
    num_bytes: int
    max_in_flight: int
    max_requests_per_s: float
    compute_unit: str
    monthly_compute: Mapping[str, float]


class SourceKind(Protocol):
    """One kind of source: its settings, and what a build needs of it."""

    @property
    def name(self) -> str:
        """Of the registry, and of the source's section in a configuration."""
        ...

    @property
    def settings_model(self) -> type[BaseModel]:
        """A frozen model with the attributes of `SettingsOfBuild`.

        `softcon rebuild` and the flows take it where it is a `BuildSettings` with a field that is
        named as the source.
        """
        ...

    def open(self, settings: Any, folder: Path) -> AbstractContextManager[BuildPlan]:
        """Connect to the source for as long as a build runs.

        Args:
            settings: of this source.
            folder: where relative paths of the settings start, other than the cube's.

        Raises:
            InputError: settings, files, credentials or address are wrong. Nothing was written yet.
            TransientError: the source does not answer for now.
        """
        ...

    def num_locations(self, settings: Any, folder: Path) -> int:
        """Count the locations without connecting to anything; arguments as for `open`."""
        ...

    def plan_requests(self, settings: Any, num_locations: int) -> RequestPlan | None:
        """Return what so many locations ask of a provider; None where there is no provider."""
        ...


_registered: dict[str, SourceKind] = {}


def register(kind: SourceKind) -> None:
    """Make a source known to this process, under its name.

    Raises:
        ValueError: another source has this name.
    """
    if kind.name in _OURS or _registered.get(kind.name, kind) is not kind:
        raise ValueError(f"a source named {kind.name} is registered already")
    _registered[kind.name] = kind


def source_names() -> list[str]:
    """Return the names of all sources, ours first."""
    others = {entry.name for entry in entry_points(group=ENTRY_POINTS)} | _registered.keys()
    return [*_OURS, *sorted(others - _OURS.keys())]


def source_kind(name: str) -> SourceKind:
    """Return a source by its name.

    Raises:
        InputError: there is none, or the package that has it is broken.
    """
    if name not in _registered:
        if name in _OURS:
            _registered[name] = import_module(_OURS[name]).KIND
        elif entry := _entry_point(name):
            _registered[name] = _load(entry)
    if name not in _registered:
        raise InputError(
            f"there is no source named {name!r}; the sources are {', '.join(source_names())}"
        )
    return _registered[name]


def _entry_point(name: str) -> EntryPoint | None:
    """Return where another package has the source of this name; None if no package has."""
    entries = list(entry_points(group=ENTRY_POINTS, name=name))
    if len(entries) > 1:
        raise InputError(
            f"the source {name} is offered by {' and '.join(map(_package_of, entries))}: remove one"
        )
    return entries[0] if entries else None


def _load(entry: EntryPoint) -> SourceKind:
    try:
        kind: SourceKind = entry.load()
        own_name = kind.name
    except Exception as error:  # whatever the code of another package raises
        raise InputError(
            f"the source {entry.name} of {_package_of(entry)} cannot be loaded "
            f"({type(error).__name__}: {error}): update the package, or remove it"
        ) from error
    if own_name != entry.name:
        raise InputError(
            f"{_package_of(entry)} offers the source {entry.name}, which calls itself {own_name}: "
            "both names have to be the same"
        )
    return kind


def _package_of(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else f"the package {entry.dist.name}"


def kind_of(settings: SettingsOfBuild) -> SourceKind:
    """Return the source that settings belong to.

    Raises:
        TypeError: no registered source has settings of this type.
    """
    # Those in use first: a package that is broken must not stop the builds of other sources.
    for name in sorted(source_names(), key=lambda name: name not in _registered):
        kind = source_kind(name)
        if isinstance(settings, kind.settings_model):
            return kind
    raise TypeError(f"no registered source has settings of the type {type(settings).__name__}")


def read_build_settings(path: Path, changes: Sequence[str] = ()) -> Any:
    """Read the YAML configuration of a build; the section it holds decides the source.

    Args:
        path: the file.
        changes: ``a.b=value`` each, the value in YAML.

    Returns:
        the settings, of the model of their source.

    Raises:
        InputError: the file cannot be read, is not YAML, or holds something that does not belong.
    """
    return parse_build_settings(read_settings(path, changes), str(path))


def parse_build_settings(values: Mapping[Any, Any], where: str) -> Any:
    """Check the configuration of a build.

    Args:
        values: as read from a file.
        where: the file, for error messages.

    Returns:
        the settings, of the model of their source.

    Raises:
        InputError: something is missing, unknown or out of range, or two sources are named.
    """
    named = _sections_in(values)
    if len(named) > 1:
        raise InputError(f"{where} names {len(named)} sources, {' and '.join(named)}: keep one")
    model = source_kind(named[0] if named else _DEFAULT).settings_model
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(f"{where}: {sentence_of(error, tags=KINDS)}") from error


def _sections_in(values: Mapping[Any, Any]) -> list[str]:
    """Return the names of the sources that a configuration has a section of."""
    return [name for name in source_names() if name in values and _has_section(name)]


def _has_section(name: str) -> bool:
    return name in source_kind(name).settings_model.model_fields


class _OfItsSource:
    """Annotation of `BuildSettings`: read as the settings of the source whose section they have.

    A form made from it shows the settings of every source that is known when the form is made.
    """

    def __get_pydantic_core_schema__(
        self, annotated: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        models = {
            name: source_kind(name).settings_model for name in source_names() if _has_section(name)
        }
        if len(models) == 1:  # As if the model itself stood in the signature.
            return handler.generate_schema(*models.values())

        def choose(values: Any) -> str | None:
            if not isinstance(values, Mapping):
                return next((n for n, model in models.items() if isinstance(values, model)), None)
            named = [name for name in models if name in values]
            return None if len(named) > 1 else (named or [_DEFAULT])[0]

        tagged = [Annotated[model, Tag(name)] for name, model in models.items()]
        choice = Discriminator(
            choose,
            custom_error_type="one_source",
            custom_error_message=f"give the settings of one source: {', '.join(models)}",
        )
        return handler.generate_schema(Annotated[functools.reduce(operator.or_, tagged), choice])


AnyBuildSettings = Annotated[BuildSettings, _OfItsSource()]
"""Parameter of a flow: the settings of a build from any source that takes a configuration."""
