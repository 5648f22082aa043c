"""A registry maps a name to a component and to the Options class that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import Field, create_model

from config.errors import UserError, unknown_name
from config.options import Options, Section

Component = TypeVar("Component", bound=Callable[..., Any])
SectionType = TypeVar("SectionType", bound=Section)


class NoOptions(Options):
    """A component without options."""


ANY = "/*"  # the end of a name that stands for all names of another library


@dataclass(frozen=True)
class Entry:
    """One registered component; `where` says who registered it.

    `sections`: sub-section -> its options; none for a component without options. With more than
    one, a recipe gives exactly one of them.
    """

    name: str
    component: Callable[..., Any]
    sections: Mapping[str, type[Options]]
    where: str
    summary: str

    @property
    def options(self) -> type[Options]:
        """The options of a component with one sub-section or none."""
        return next(iter(self.sections.values()), NoOptions)

    def section_of(self, section: Options) -> str | None:
        """The sub-section that counts, the one given of several; None if there is no such one."""
        several = len(self.sections) > 1
        given = [key for key in self.sections if not several or key in section.model_fields_set]
        return given[0] if len(given) == 1 else None


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
        self,
        name: str,
        *,
        key: str | None = None,
        options: type[Options] | Mapping[str, type[Options]] = NoOptions,
    ) -> Callable[[Component], Component]:
        """Decorator: `@REGISTRY.register("name", key="sub_section", options=ItsOptions)`.

        The component is called as `component(options, **context)`. `key` defaults to `name` for
        components that have options. A mapping {sub-section: options} is for a component that is
        chosen by the sub-section given. A name that ends in `/*` stands for all names of another
        library; the component gets what replaces the star as `variant`. Raises UserError for a
        name that is taken.
        """

        def add(component: Component) -> Component:
            where = _where(component)
            if name in self._entries and self._entries[name].where != where:
                raise UserError(
                    f"{where}: {self.kind} {name!r} is already registered by "
                    f"{self._entries[name].where}; choose another name"
                )
            sections = dict(options) if isinstance(options, Mapping) else {key or name: options}
            for kind in sections.values():
                if not (isinstance(kind, type) and issubclass(kind, Options)):
                    raise UserError(
                        f"{where}: {self.kind} {name!r}: options={kind!r} is no class derived "
                        "from config.options.Options"
                    )
            sections = {k: kind for k, kind in sections.items() if kind is not NoOptions}
            self._check_shared_keys(sections, where)
            summary = (inspect.getdoc(component) or "").split("\n", 1)[0]
            self._entries[name] = Entry(name, component, sections, where, summary)
            return component

        return add

    def _check_shared_keys(self, sections: Mapping[str, type[Options]], where: str) -> None:
        for other in self._entries.values():
            for key in sections.keys() & other.sections.keys():
                if other.sections[key].__name__ != sections[key].__name__:
                    raise UserError(
                        f"{where}: sub-section {key!r} of {self.section_key} belongs to "
                        f"{other.where} with other options; choose another key"
                    )

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries or _family(name) in self._entries

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`; UserError with the nearest names if there is none."""
        if name in self._entries:
            return self._entries[name]
        if _family(name) in self._entries:
            entry = self._entries[_family(name)]
            variant = name.partition("/")[2]
            return replace(entry, name=name, component=partial(entry.component, variant=variant))
        text = unknown_name(self.kind, name, self._entries)
        raise UserError(f"{self.section_key}: {text}")

    def options_of(self, section: Section) -> Options:
        """The options of the component that `section.name` selects; UserError if it is unclear."""
        entry = self[section.name]
        key = entry.section_of(section)
        if key is None and entry.sections:
            home, keys = self.section_key.rpartition(".")[0], " and ".join(entry.sections)
            raise UserError(
                f"{self.section_key}: {section.name} is chosen by its options: give one of the "
                f"sections {keys} of {home}, and only one"
            )
        return NoOptions() if key is None else getattr(section, key)

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
            for key, kind in registry[name].sections.items():
                if key not in base.model_fields:
                    text = f"options of {registry.kind} {name}"
                    parts[key] = (kind, Field(default_factory=kind, description=text))
    made = create_model(base.__name__, __base__=base, __module__=base.__module__, **parts)
    made.choices = registries
    return made


def _family(name: str) -> str:
    """`timm/resnet18` -> `timm/*`; "" for a plain name."""
    library, slash, variant = name.partition("/")
    return library + ANY if slash and variant else ""


def _where(component: Any) -> str:
    """`file:line` of a component's definition, for messages."""
    try:
        return f"{inspect.getsourcefile(component)}:{inspect.getsourcelines(component)[1]}"
    except (OSError, TypeError):
        return f"{component.__module__}.{getattr(component, '__qualname__', component)}"
