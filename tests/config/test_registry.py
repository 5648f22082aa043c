"""Names choose components; each gets its own options and the documented context."""

import pytest
from pydantic import Field

from config.errors import UserError
from config.options import OPERATIONAL, Options, Section
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


class Toys(Options):
    """A section where components are chosen by other fields than `name`."""

    kites: tuple[str, ...] = Field((), description="some", json_schema_extra=OPERATIONAL)
    ball: str | None = Field(None, description="one or none")
    size: int = Field(1, description="size")

    @property
    def thrown(self) -> tuple[str, ...]:
        """What is in the air."""
        return self.kites


def test_components_may_be_chosen_by_other_fields_and_several_at_once():
    kites, balls = registry(), Registry("ball", section="toys.ball", context={"colour": "its"})
    kites.register("delta", options=One)(lambda options: ("delta", options.size))
    kites.register("box")(lambda options: ("box", options))
    balls.register("tennis", key="felt", options=Two)(lambda options, *, colour: (options, colour))
    toys = compose(Toys, kites=kites, ball=balls, thrown=kites)
    assert list(toys.fields()) == ["kites", "ball", "size", "delta", "felt"]
    section = toys(kites=("delta", "box"), delta=One(size=3), felt=Two())
    assert kites.build(section, name="delta") == ("delta", 3)
    assert kites.build(section, name="box") == ("box", NoOptions())
    assert balls.build(section, name="tennis", colour="red") == (Two(), "red")
    assert {field: len(found) for field, found in toys.choices.items()} == {
        "kites": 1, "ball": 1, "thrown": 1,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"no kite is called 'delt' - did you mean delta\?"):
        kites.options_of(section, name="delt")


def test_what_an_operational_field_chooses_is_operational():
    from engine.resolved import operational_keys

    kites, balls = registry(), Registry("ball", section="toys.ball", context={})
    kites.register("delta", options=One)(lambda options: None)
    balls.register("tennis", options=Two)(lambda options: None)
    toys = compose(Toys, kites=kites, ball=balls)
    assert operational_keys(toys, "toys") == {"toys.kites", "toys.delta.size"}


def test_a_component_registered_after_the_section_was_made_gets_its_defaults():
    kites = registry()
    section = compose(Toys, kites=kites)()
    kites.register("delta", options=One)(lambda options: options)
    assert kites.build(section, name="delta") == One()


@pytest.mark.parametrize("key", ["size", "kites", "thrown", "choices", "copy"])
def test_a_sub_section_must_not_hide_what_the_section_has(key):
    kites = registry()
    kites.register("delta", key=key, options=One)(lambda options: None)
    with pytest.raises(UserError) as error:
        compose(Toys, kites=kites)
    assert str(error.value).startswith(f"{__file__}:")
    assert str(error.value).endswith(
        f": kite 'delta': its section of a recipe has something else called {key!r}; "
        "choose another key"
    )


def test_components_of_two_kinds_cannot_have_different_options_of_one_key():
    kites, balls = registry(), Registry("ball", section="toys.ball", context={})
    kites.register("round", options=One)(lambda options: None)
    balls.register("round", options=Two)(lambda options: None)
    with pytest.raises(UserError, match="ball 'round': its section of a recipe has something else"):
        compose(Toys, kites=kites, ball=balls)


class Needy(Options):
    """One option has no default."""

    length: int = Field(2, description="length")
    width: int = Field(description="width")


class Size(Options):
    """What all options of a kind have in common."""

    size: int = Field(1, description="size")


def test_every_option_of_a_component_has_a_default():
    with pytest.raises(UserError) as error:
        registry().register("delta", options=Needy)(lambda options: None)
    assert str(error.value).endswith(
        ": kite 'delta': option 'width' has no default; give it one, or null"
    )


@pytest.mark.parametrize("key", ["my-kite", "my.kite", "my kite", "_kite", "2nd"])
def test_a_sub_section_must_be_a_key_that_a_recipe_can_have(key):
    with pytest.raises(UserError, match=f"'{key}' cannot be a key of a recipe; add key= with"):
        registry().register(key, options=One)(lambda options: None)
    kites = registry()
    kites.register(key, key="good", options=One)(lambda options: None)
    kites.register(f"{key} without options")(lambda options: None)
    assert list(compose(Toys, kites=kites).fields())[3:] == ["good"]


def test_options_of_a_kind_may_have_a_class_in_common():
    class Large(Size):
        """More of them."""

        more: int = Field(2, description="more")

    kites = Registry("kite", section="toys.kite", context={}, options=Size)
    kites.register("delta", options=Large)(lambda options: options)
    kites.register("box")(lambda options: options)
    made = compose(Toys, kites=kites)()
    assert (kites.build(made, name="delta"), kites.build(made, name="box")) == (Large(), Size())
    with pytest.raises(UserError, match=r"options=<class .*One'> is no class derived from .*Size"):
        kites.register("round", options=One)(lambda options: None)


def test_the_summary_is_the_first_line_of_the_documentation(engines):
    made, _, _ = engines
    assert made["petrol"].summary == "Burns petrol."
    assert made["petrol"].where.startswith(__file__.replace("test_registry", "conftest"))
