"""A list of mappings is read as a tuple of options, each mistake with its place in the list."""

import pytest
from pydantic import Field, create_model

from config.options import Options


@pytest.fixture
def cars(engines):
    """A section whose entries have a section that chooses a component by name."""
    section = engines[1]

    class Wagon(Options):
        """One entry."""

        seats: int = Field(4, ge=1, description="how many")
        engine: section = Field(default_factory=section, description="what drives it")

    wagons = (tuple[Wagon, ...], Field((), description="all of them"))
    return create_model("Train", __base__=Options, wagons=wagons)


TEXT = """\
wagons:
  - seats: 2
    engine:
      name: sail
  - engine: {p: {litres: 2}}
"""


def test_entries_are_read_by_their_options(read, cars):
    first, second = read(TEXT, kind=cars).wagons
    assert (first.seats, first.engine.name) == (2, "sail")
    assert (second.seats, second.engine.name, second.engine.p.litres) == (4, "petrol", 2.0)
    assert read.origins["wagons[0].engine.name"] == "r.yaml:4"
    assert read.origins["wagons[1]"] == "r.yaml:5"
    assert read.origins["wagons[1].engine.p.litres"] == "r.yaml:5"


def test_mistakes_say_which_entry_and_line(read, cars):
    text = TEXT.replace("seats: 2", "seats: 0").replace("litres", "liters").replace("sail", "sale")
    assert read.mistakes(text, kind=cars) == [
        "r.yaml:2: wagons[0].seats: must be at least 1 ('0' given)",
        "r.yaml:4: wagons[0].engine.name: no engine is called 'sale' - did you mean sail? (one of "
        "your own: see common.plugins)",
        "r.yaml:5: wagons[1].engine.p.liters: unknown key - did you mean litres?",
    ]
    assert read.mistakes("wagons: [3]", kind=cars) == [
        "r.yaml:1: wagons[0]: a section is expected ('3' given) - its keys are seats, engine"
    ]


def test_one_mapping_is_a_list_of_one_and_null_is_none(read, cars):
    assert [wagon.seats for wagon in read("wagons: {seats: 3}", kind=cars).wagons] == [3]
    assert read("wagons: null", kind=cars).wagons == ()
    words = ("wagons=[{seats: 7}, {seats: 8}]",)
    assert [wagon.seats for wagon in read("", *words, kind=cars).wagons] == [7, 8]
