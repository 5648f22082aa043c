"""A registry maps a name to a component and to the Options class that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field, create_model

from config.errors import UserError, unknown_name
from config.options import Options, Section

Component = TypeVar("Component", bound=Callable[..., Any])
SectionType = TypeVar("SectionType", bound=Section)


class NoOptions(Options):
    """A component without options."""


@dataclass(frozen=True)
class Entry:
    """One registered component: `key` names its sub-section, `where` says who registered it."""

    name: str
    component: Callable[..., Any]
    options: type[Options]
    key: str | None
    where: str
    summary: str


class Registry:
    """Components of one kind, chosen by name in a recipe.

    `kind` is the word for messages, `section` the dotted place in a recipe where the name
    stands, `context` the arguments that every component of the kind receives besides its own
    options (argument name -> meaning). Nothing else is passed.
    """

    def __init__(self, kind: str, *, section: str, context: Mapping[str, str]):
        self.kind = kind
        self.section_key = section
        self.context = dict(context)
        self._entries: dict[str, Entry] = {}

    def register(
        self, name: str, *, key: str | None = None, options: type[Options] = NoOptions
    ) -> Callable[[Component], Component]:
        """Decorator: `@REGISTRY.register("name", key="sub_section", options=ItsOptions)`.

        The component is called as `component(options, **context)`. `key` defaults to `name` for
        components that have options. Raises UserError for a name that is taken.
        """

        def add(component: Component) -> Component:
            where = _where(component)
            if name in self._entries and self._entries[name].where != where:
                raise UserError(
                    f"{where}: {self.kind} {name!r} is already registered by "
                    f"{self._entries[name].where}; choose another name"
                )
            if not (isinstance(options, type) and issubclass(options, Options)):
                raise UserError(
                    f"{where}: {self.kind} {name!r}: options={options!r} is no class derived "
                    "from config.options.Options"
                )
            own_key = key or (name if options is not NoOptions else None)
            self._check_shared_key(own_key, options, where)
            summary = (inspect.getdoc(component) or "").split("\n", 1)[0]
            self._entries[name] = Entry(name, component, options, own_key, where, summary)
            return component

        return add

    def _check_shared_key(self, key: str | None, options: type[Options], where: str) -> None:
        for other in self._entries.values():
            if key is not None and other.key == key and other.options.__name__ != options.__name__:
                raise UserError(
                    f"{where}: sub-section {key!r} of {self.section_key} belongs to "
                    f"{other.where} with other options; choose another key"
                )

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`; UserError with the nearest names if there is none."""
        if name not in self._entries:
            text = unknown_name(self.kind, name, self._entries)
            raise UserError(f"{self.section_key}: {text}")
        return self._entries[name]

    def options_of(self, section: Section) -> Options:
        """The options of the component that `section.name` selects."""
        entry = self[section.name]
        return entry.options() if entry.key is None else getattr(section, entry.key)

    def build(self, section: Section, **context: Any) -> Any:
        """Build the component that `section.name` selects from its own options and the context."""
        entry = self[section.name]
        if set(context) != set(self.context):
            raise TypeError(
                f"a {self.kind} is built with {sorted(self.context)}, not {sorted(context)}"
            )
        return entry.component(self.options_of(section), **context)


def compose(base: type[SectionType], *registries: Registry) -> type[SectionType]:
    """The type of a section: the fields of `base` and one sub-section per registered key."""
    parts: dict[str, Any] = {}
    for registry in registries:
        for name in registry.names():
            entry = registry[name]
            if entry.key is not None and entry.key not in base.model_fields:
                text = f"options of {registry.kind} {name}"
                parts[entry.key] = (
                    entry.options,
                    Field(default_factory=entry.options, description=text),
                )
    made = create_model(base.__name__, __base__=base, __module__=base.__module__, **parts)
    made.choices = registries
    return made


def _where(component: Any) -> str:
    """`file:line` of a component's definition, for messages."""
    try:
        return f"{inspect.getsourcefile(component)}:{inspect.getsourcelines(component)[1]}"
    except (OSError, TypeError):
        return f"{component.__module__}.{getattr(component, '__qualname__', component)}"
