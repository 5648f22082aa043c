"""A registry maps a name to a component and to the Options class that it takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import Field, ValidationError, create_model

from config.errors import UserError, unknown_name
from config.options import Options, Section

Component = TypeVar("Component", bound=Callable[..., Any])
OptionsType = TypeVar("OptionsType", bound=Options)


class NoOptions(Options):
    """A component without options."""


ANY = "/*"  # the end of a name that stands for all names of another library


@dataclass(frozen=True)
class Entry:
    """One registered component; `where` says who registered it.

    `sections`: sub-section -> its options; none for a component without options. With more than
    one, a recipe gives exactly one of them. `whole`: its options are those of the section itself.
    """

    name: str
    component: Callable[..., Any]
    sections: Mapping[str, type[Options]]
    where: str
    summary: str
    whole: bool = False

    @property
    def options(self) -> type[Options]:
        """The options of a component with one sub-section or none."""
        return next(iter(self.sections.values()), NoOptions)

    @property
    def registered(self) -> Any:
        """The component as it was registered, where a name of a library binds its variant."""
        return getattr(self.component, "func", self.component)

    def section_of(self, section: Options) -> str | None:
        """The sub-section that counts, the one given of several; None if there is no such one."""
        several = len(self.sections) > 1
        given = [key for key in self.sections if not several or key in section.model_fields_set]
        return given[0] if len(given) == 1 else None


class Registry:
    """Components of one kind, chosen by name in a recipe.

    `kind` is the word for messages, `section` the dotted place in a recipe where the name
    stands, `context` the arguments that every component of the kind receives besides its own
    options (argument name -> meaning). Nothing else is passed. `options`: what the options of
    every component derive from, if they have fields in common.
    """

    def __init__(
        self,
        kind: str,
        *,
        section: str,
        context: Mapping[str, str],
        options: type[Options] = NoOptions,
    ):
        self.kind = kind
        self.section_key = section
        self.context = dict(context)
        self.base = options
        self.hints: dict[str, str] = {}  # what to say of a name that is no name here
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
        chosen by the sub-section given. With a class of whole sections (`config.options.Section`)
        the component gets the section in which it was chosen. A name that ends in `/*` stands for
        all names of another library; the component gets what replaces the star as `variant`. Raises
        UserError for a name that is taken.
        """

        def add(component: Component) -> Component:
            where = _where(component)
            if name in self._entries and self._entries[name].where != where:
                raise UserError(
                    f"{where}: {self.kind} {name!r} is already registered by "
                    f"{self._entries[name].where}; choose another name"
                )
            given = self.base if options is NoOptions else options
            whole = isinstance(given, type) and issubclass(given, Section)
            given = NoOptions if whole else given
            sections = dict(given) if isinstance(given, Mapping) else {key or name: given}
            sections = {k: kind for k, kind in sections.items() if kind is not NoOptions}
            for sub_section, kind in sections.items():
                self._check_options(sub_section, kind, f"{where}: {self.kind} {name!r}")
            self._check_shared_keys(sections, where)
            summary = (inspect.getdoc(component) or "").split("\n", 1)[0]
            self._entries[name] = Entry(name, component, sections, where, summary, whole)
            return component

        return add

    def _check_options(self, key: str, kind: object, what: str) -> None:
        """UserError unless `kind` is a class of options that a recipe can hold under `key`."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", key):
            raise UserError(
                f"{what}: {key!r} cannot be a key of a recipe; add key= with letters, digits and _"
            )
        base = Options if self.base is NoOptions else self.base
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise UserError(
                f"{what}: options={kind!r} is no class derived from "
                f"{base.__module__}.{base.__name__}"
            )
        for option, field in kind.fields().items():
            if field.is_required():  # or no recipe could be read, not even one of other components
                raise UserError(f"{what}: option {option!r} has no default; give it one, or null")
        try:
            kind()
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise UserError(f"{what}: the default of option {place!r}: {problem['msg']}") from None

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
        if name in self._entries and not name.endswith(ANY):
            return self._entries[name]
        if _family(name) in self._entries:
            entry = self._entries[_family(name)]
            variant = name.partition("/")[2]
            return replace(entry, name=name, component=partial(entry.component, variant=variant))
        text = unknown_name(self.kind, name, self._entries)
        raise UserError(f"{self.section_key}: {text}")

    def options_of(self, section: Options, *, name: str | None = None) -> Options:
        """The options in `section` of the component `name`, else of the one of `section.name`.

        UserError if it is unclear which they are.
        """
        entry = self[_chosen(section) if name is None else name]
        if entry.whole:
            return section
        key = entry.section_of(section)
        if key is None and entry.sections:
            home, keys = self.section_key.rpartition(".")[0], " and ".join(entry.sections)
            raise UserError(
                f"{self.section_key}: {entry.name} is chosen by its options: give one of the "
                f"sections {keys} of {home}, and only one"
            )
        if key is None:
            return NoOptions()
        # a section that was put together before the component was registered has none of them
        return getattr(section, key, None) or entry.sections[key]()

    def build(self, section: Options, *, name: str | None = None, **context: Any) -> Any:
        """Build the component `name`, else the one of `section.name`, from its options in
        `section` and the context."""
        entry = self[_chosen(section) if name is None else name]
        if set(context) != set(self.context):
            raise TypeError(
                f"a {self.kind} is built with {sorted(self.context)}, not {sorted(context)}"
            )
        return entry.component(self.options_of(section, name=name), **context)


def compose(
    base: type[OptionsType], *registries: Registry, **by_field: Registry
) -> type[OptionsType]:
    """The type of a section: the fields of `base` and one sub-section per registered key.

    Components of `registries` are chosen by the field `name`, those of `by_field` by another field
    or property, which holds a name or several. What a component does is as operational (see
    `config.options`) as the field that chooses it. UserError for a key that is taken.
    """
    choices: dict[str, tuple[Registry, ...]] = {"name": registries} if registries else {}
    choices |= {field: (registry,) for field, registry in by_field.items()}
    parts: dict[str, Any] = {}
    for field, sources in choices.items():
        extra = base.model_fields[field].json_schema_extra if field in base.model_fields else None
        for registry, name in ((source, name) for source in sources for name in source.names()):
            for key, kind in registry[name].sections.items():
                taken = key in base.model_fields or hasattr(base, key)
                if taken or (key in parts and parts[key][0] is not kind):
                    raise UserError(
                        f"{registry[name].where}: {registry.kind} {name!r}: its section of a recipe "
                        f"has something else called {key!r}; choose another key"
                    )
                text = f"options of {registry.kind} {name}"
                part = Field(default_factory=kind, description=text, json_schema_extra=extra)
                parts[key] = (kind, part)
    made = create_model(base.__name__, __base__=base, __module__=base.__module__, **parts)
    made.choices = choices
    return made


def _chosen(section: Options) -> str:
    """What `section.name` says."""
    assert isinstance(section, Section)
    return section.name


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
