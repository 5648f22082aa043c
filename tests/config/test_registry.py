"""Names choose components; each gets its own options and the documented context."""

import pytest
from pydantic import Field

from config.errors import UserError
from config.options import Options, Section
from config.registry import NoOptions, Registry, compose


class One(Options):
    """Options of a shared section."""

    size: int = Field(1, description="size")


class Two(Options):
    """Other options."""


def registry() -> Registry:
    return Registry("kite", section="toys.kite", context={})


def test_a_component_gets_its_own_options_and_the_context(engines, read):
    made, section, petrol = engines
    chosen = read("name: petrol\np: {litres: 2}", kind=section)
    built = made.build(chosen, wheels=4)
    assert isinstance(built, petrol)
    assert (built.options.litres, built.wheels) == (2.0, 4)
    assert made.build(read("name: sail", kind=section), wheels=2) == ("sail", NoOptions(), 2)


@pytest.mark.parametrize("context", [{}, {"wheels": 4, "doors": 2}, {"doors": 2}])
def test_another_context_than_the_documented_one_is_our_fault(context, engines):
    made, section, _ = engines
    with pytest.raises(TypeError, match=r"a engine is built with \['wheels'\], not "):
        made.build(section(), **context)


def test_a_section_has_a_part_per_component_with_options(engines, read):
    made, section, _ = engines
    assert list(section.fields()) == ["name", "p"]
    assert section.fields()["p"].description == "options of engine petrol"
    assert section().known_names() == made.names() == ["petrol", "sail"]
    # a part may stand in the file though its component is not selected, and is checked, too
    assert read("name: sail\np: {litres: 3}", kind=section).p.litres == 3
    assert read.mistakes("name: sail\np: {litres: 0}", kind=section) == [
        "r.yaml:2: p.litres: must be above 0 ('0' given)"
    ]


@pytest.fixture
def boats():
    """A component that is chosen by its section, and one for all names of a library."""
    made = Registry("boat", section="lake.boat.name", context={"crew": "how many"})

    class Oars(Options):
        """Rowed."""

        count: int = Field(2, description="oars")

    class Sails(Options):
        """Sailed."""

        area: float = Field(9.0, description="square metres")

    @made.register("dinghy", options={"oars": Oars, "sails": Sails})
    def dinghy(options, *, crew):
        """Rowed or sailed."""
        return type(options).__name__, crew

    @made.register("yard/*", key="yard", options=Sails)
    def yard(options, *, crew, variant):
        """Any boat of the yard."""
        return variant, options.area, crew

    class BoatSection(Section):
        """What swims."""

        name: str = Field("dinghy", description="which boat")

    return made, compose(BoatSection, made)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("oars: {count: 4}", "Oars"),
        ("sails: {}", "Sails"),
        ("oars: null\nsails: {}", "Sails"),
    ],
)
def test_the_section_given_chooses_the_component(boats, read, text, kind):
    made, section = boats
    assert made.build(read(text, kind=section), crew=2) == (kind, 2)


@pytest.mark.parametrize("text", ["", "oars: {}\nsails: {}"])
def test_neither_or_both_sections_choose_nothing(boats, read, text):
    made, section = boats
    with pytest.raises(UserError) as error:
        made.build(read(text, kind=section), crew=2)
    assert str(error.value) == (
        "lake.boat.name: dinghy is chosen by its options: give one of the sections oars and sails "
        "of lake.boat, and only one"
    )


def test_a_name_can_stand_for_a_whole_library(boats, read):
    made, section = boats
    chosen = read("name: yard/laser\nyard: {area: 7}", kind=section)
    assert made.build(chosen, crew=1) == ("laser", 7, 1)
    assert "yard/laser" in made
    assert made.names() == ["dinghy", "yard/*"]
    for name in ("yard/", "yards/laser", "dinghy/laser"):
        assert name not in made
        assert "no boat is called" in read.mistakes(f"name: {name}", kind=section)[0]


def test_an_unknown_name_lists_the_near_ones(engines, read):
    made, section, _ = engines
    own = "(one of your own: see common.plugins)"
    assert read.mistakes("name: petrel", kind=section) == [
        f"r.yaml:1: name: no engine is called 'petrel' - did you mean petrol? {own}"
    ]
    assert read.mistakes("name: 5", kind=section) == [
        f"r.yaml:1: name: no engine is called '5' - allowed: petrol, sail {own}"
    ]
    with pytest.raises(UserError) as error:
        made["salt"]
    assert str(error.value) == f"car.engine: no engine is called 'salt' - did you mean sail? {own}"
    assert "sail" in made
    assert "salt" not in made


def test_a_name_in_place_of_the_section(engines, read):
    _, section, _ = engines

    class Car(Options):
        """A car."""

        engine: section = Field(default_factory=section, description="what drives it")

    assert read.mistakes("engine: sail", kind=Car) == [
        "r.yaml:1: engine: a section is expected ('sail' given) - did you mean engine.name?"
    ]


def test_a_name_registered_twice_says_by_whom():
    kites = registry()

    @kites.register("delta")
    def first(options):
        """One."""

    with pytest.raises(UserError) as error:

        @kites.register("delta")
        def second(options):
            """Two."""

    here = rf"{__file__}:\d+"
    assert error.match(
        rf"^{here}: kite 'delta' is already registered by {here}; choose another name$"
    )
    places = str(error.value).split(" is already")[0], str(error.value).split(" by ")[1]
    assert places[0].split(":")[1] != places[1].split(":")[1]


def test_the_same_definition_may_be_imported_twice():
    kites = registry()

    def delta(options):
        """One."""

    kites.register("delta")(delta)
    kites.register("delta")(delta)
    assert kites.names() == ["delta"]


def test_components_may_share_a_section_of_the_same_options():
    kites = registry()
    kites.register("a", key="shared", options=One)(lambda options: ("a", options))
    kites.register("b", key="shared", options=One)(lambda options: ("b", options))

    from config.options import Section

    section = compose(Section, kites)
    assert list(section.fields()) == ["name", "shared"]
    for name in "ab":
        assert kites.build(section(name=name, shared=One(size=5))) == (name, One(size=5))


def test_components_with_different_options_cannot_share_a_section():
    kites = registry()
    kites.register("a", key="shared", options=One)(lambda options: None)
    with pytest.raises(
        UserError, match=r"sub-section 'shared' of toys\.kite belongs to .*test_reg"
    ):
        kites.register("b", key="shared", options=Two)(lambda options: None)


@pytest.mark.parametrize("options", [dict, object, One(), None])
def test_options_must_be_a_class_of_options(options):
    with pytest.raises(
        UserError, match=r"kite 'a': options=.* is no class derived from config\.opt"
    ):
        registry().register("a", options=options)(lambda options: None)


def test_a_field_of_the_section_itself_wins_over_a_component_of_that_name():
    kites = registry()
    kites.register("name", options=One)(lambda options: None)
    from config.options import Section

    assert list(compose(Section, kites).fields()) == ["name"]


def test_the_summary_is_the_first_line_of_the_documentation(engines):
    made, _, _ = engines
    assert made["petrol"].summary == "Burns petrol."
    assert made["petrol"].where.startswith(__file__.replace("test_registry", "conftest"))
