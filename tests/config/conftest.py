"""A small set of options, and a way to read a recipe text by it."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, model_validator

from config.errors import Problem, RecipeError
from config.options import Options, Section
from config.reading import Reader
from config.registry import Registry, compose
from config.source import Value, override, parse


class Inner(Options):
    """A section with a rule about two fields."""

    low: int = Field(1, ge=0, description="smallest")
    high: int = Field(9, le=100, description="largest")
    free: str = Field("", description="text")

    @model_validator(mode="after")
    def _ordered(self) -> Inner:
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high = {self.high}; lower it")
        return self


class Top(Options):
    """One field of every type that a recipe knows."""

    switch: bool = Field(False, description="a boolean")
    count: int = Field(0, ge=0, le=10**9, description="a whole number")
    rate: float = Field(0.5, ge=-1e308, description="a number")
    any_rate: float = Field(0.5, description="a number without bounds")
    open_rate: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False, description="within (0, 1)")
    text: str = Field("", description="text")
    maybe_count: int | None = Field(7, description="a whole number or null")
    maybe_text: str | None = Field("x", description="text or null")
    names: tuple[str, ...] = Field(("a",), description="texts")
    numbers: tuple[float, ...] = Field((), description="numbers")
    pair: tuple[int, int] = Field((1, 2), description="two whole numbers")
    extent: int | tuple[int, int] = Field(3, description="a side, or two")
    pairs: tuple[tuple[str, str], ...] = Field((), description="pairs of texts")
    colour: Literal["red", "green"] = Field("red", description="a choice")
    level: Literal[8, 16, None] = Field(8, description="a choice of numbers")
    device: str = Field("cpu", pattern=r"^(cpu|gpu\d)$", description="cpu or gpuN")
    inner: Inner = Field(default_factory=Inner, description="a section")


class Read:
    """Reads YAML text and command-line words; `problems` are the lines of all mistakes."""

    def __call__(self, text: str = "", *words: str, kind: type[Options] = Top):
        problems: list[Problem] = []
        reader = Reader()
        tree = parse(text, "r.yaml", problems)
        override(tree, words, problems)
        result = reader.read(tree, kind)
        if problems or reader.problems:
            raise RecipeError([*problems, *reader.problems])
        self.origins = reader.origins
        return result

    def mistakes(self, text: str = "", *words: str, kind: type[Options] = Top) -> list[str]:
        with pytest.raises(RecipeError) as error:
            self(text, *words, kind=kind)
        return error.value.lines()


@pytest.fixture
def read() -> Read:
    return Read()


@pytest.fixture
def top() -> type[Top]:
    return Top


@pytest.fixture
def parsed():
    """Parse YAML text to a tree without any problem."""

    def parse_text(text: str) -> Value:
        problems: list[Problem] = []
        tree = parse(text, "r.yaml", problems)
        assert not problems
        return tree

    return parse_text


@pytest.fixture
def engines():
    """A registry with two components, and the section that chooses one of them."""
    registry = Registry("engine", section="car.engine", context={"wheels": "how many"})

    class PetrolOptions(Options):
        """Petrol."""

        litres: float = Field(1.5, gt=0, description="volume")

    @registry.register("petrol", key="p", options=PetrolOptions)
    class Petrol:
        """Burns petrol."""

        def __init__(self, options, *, wheels):
            self.options, self.wheels = options, wheels

    @registry.register("sail")
    def sail(options, *, wheels):
        """Needs nothing but wind."""
        return ("sail", options, wheels)

    class EngineSection(Section):
        """What drives the car."""

        name: str = Field("petrol", description="which engine")

    return registry, compose(EngineSection, registry), Petrol
