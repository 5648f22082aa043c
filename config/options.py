"""The base of all typed options, and of the sections that are put together from a registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

# `Field(..., json_schema_extra=OPERATIONAL)`: where and how fast, never what is computed. Such a
# key may change when a run is resumed.
OPERATIONAL: dict[str, Any] = {"operational": True}

# `Field(..., json_schema_extra=IF_GIVEN)`: a section that most recipes go without; a recipe that is
# written out with all defaults leaves it out.
IF_GIVEN: dict[str, Any] = {"if_given": True}


class Options(BaseModel):
    """Typed, frozen options of one component: the class is also their documentation.

    Every field carries a description (with its unit) and its bounds in `Field`. Values are
    checked strictly (no bool for a number, no text for an int); text from YAML or from the
    command line is read by the declared type in `config.reading` before it comes here.

    Where components are chosen, `config.registry.compose` adds a sub-section per component;
    `choices` then says which field holds their name or names, and in which registries these are.
    """

    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, protected_namespaces=(), validate_default=True
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Field name -> declaration, in the order of the class."""
        return dict(cls.model_fields)


class Section(Options):
    """Options of a place where a component is chosen by `name`."""

    name: str = Field("", description="which component")

    def known_names(self) -> list[str]:
        """All names that may be selected here."""
        registries = self.choices.get("name", ())
        return sorted({name for registry in registries for name in registry.names()})
