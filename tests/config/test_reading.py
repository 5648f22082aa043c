"""Options are read by their declared types, and all mistakes are reported at once, each in place."""

import pytest
from pydantic import Field, ValidationError

from config.options import Options


def test_all_mistakes_at_once_line_by_line(read):
    text = """\
count: true
swich: true
rate: fast
inner:
  hihg: 3
  low: -1
colour: blue
pair: [1]
"""
    assert read.mistakes(text, "extent=a", "nothing.at.all=1") == [
        "r.yaml:1: count: a whole number is expected ('true' given)",
        "r.yaml:2: swich: unknown key - did you mean switch?",
        "r.yaml:3: rate: a number is expected ('fast' given)",
        "r.yaml:5: inner.hihg: unknown key - did you mean high?",
        "r.yaml:6: inner.low: must be at least 0 ('-1' given)",
        "r.yaml:7: colour: not one of the choices ('blue' given) - allowed: green, red",
        "r.yaml:8: pair: 2 whole numbers are expected (['1'] given)".replace("'1'", "1"),
        "command line: extent: a whole number or 2 whole numbers is expected ('a' given)",
        "command line: nothing: unknown key - allowed: any_rate, colour, count, device, extent, "
        "inner, level, maybe_count, maybe_text, names, numbers, open_rate, ...",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("count: -1", "r.yaml:1: count: must be at least 0 ('-1' given)"),
        ("count: 1e10", "r.yaml:1: count: must be at most 1000000000 ('1e10' given)"),
        ("open_rate: 0", "r.yaml:1: open_rate: must be above 0 ('0' given)"),
        ("open_rate: 1.0", "r.yaml:1: open_rate: must be below 1 ('1.0' given)"),
        ("open_rate: .inf", "r.yaml:1: open_rate: must be finite ('.inf' given)"),
        (
            "device: gpu",
            "r.yaml:1: device: not one of the choices ('gpu' given) - allowed: cpu or gpuN",
        ),
        (
            "colour: gren",
            "r.yaml:1: colour: not one of the choices ('gren' given) - did you mean green?",
        ),
        ("level: 9", "r.yaml:1: level: not one of the choices ('9' given) - allowed: 16, 8, None"),
        (
            "extent: [1, 2, 3]",
            "r.yaml:1: extent: a whole number or 2 whole numbers is expected ([1, 2, 3] given)",
        ),
        ("pair: 3", "r.yaml:1: pair: 2 whole numbers are expected ('3' given)"),
        ("pair: ", "r.yaml:1: pair: 2 whole numbers are expected (nothing given)"),
        ("names: {a: 1}", "r.yaml:1: names: text is expected (a section given)"),
        ("numbers: [1, a]", "r.yaml:1: numbers: a number is expected ('a' given)"),
        ("pairs: [[a, b], [c]]", "r.yaml:1: pairs: 2 texts are expected (['c'] given)"),
        ("count: [1, 2]", "r.yaml:1: count: a whole number is expected ([1, 2] given)"),
        ("text: {a: 1}", "r.yaml:1: text: text is expected (a section given)"),
        ("maybe_count: x", "r.yaml:1: maybe_count: a whole number is expected ('x' given)"),
        (
            "inner: 5",
            "r.yaml:1: inner: a section is expected ('5' given) - its keys are low, high, free",
        ),
        (
            "inner: [low, 5]",
            "r.yaml:1: inner: a section is expected (['low', 5] given) - its keys are low, high, free",
        ),
        ("switch: 1", "r.yaml:1: switch: true or false is expected ('1' given)"),
        ("low: 5", "r.yaml:1: low: unknown key - did you mean inner.low?"),
        ("inner: {colour: red}", "r.yaml:1: inner.colour: unknown key - did you mean colour?"),
        ("inner: {lo: 5}", "r.yaml:1: inner.lo: unknown key - did you mean low?"),
    ],
)
def test_one_mistake_one_line(text, line, read):
    assert read.mistakes(text) == [line]


def test_lists_of_all_spellings(read):
    both = read("names: [a, b]\nnumbers:\n- 1e-3\n- 08")
    assert (both.names, both.numbers) == (("a", "b"), (0.001, 8.0))
    assert read("names: abc\nnumbers: 5") == read("names: [abc]\nnumbers: [5]")
    assert read("names: a,b").names == ("a,b",)  # in a file, commas belong to the text
    assert read("names: []").names == read("names:").names == ()


def test_lists_on_the_command_line(read):
    assert read("", "names=a,b", "numbers=1, 1e-3").names == ("a", "b")
    assert read("", "names=[a, 'b,c']").names == ("a", "b,c")
    assert read("", "names='b,c'").names == ("b,c",)
    assert read("names: [x]", "names=").names == ()
    assert read("names: [x]", "names=[]").names == ()
    assert read("", "pair=3,4").pair == read("", "pair=[3, 4]").pair == (3, 4)
    assert read("", "text=a,b").text == "a,b"  # only a list is split
    assert read("", "pairs=[[a, b], ['c,d', e]]").pairs == (("a", "b"), ("c,d", "e"))


def test_a_side_or_two(read):
    assert read("extent: 5").extent == 5
    assert read("extent: [5, 6]").extent == read("", "extent=5,6").extent == (5, 6)


def test_choices_are_compared_by_their_type(read):
    assert read("level: 016").level == read("level: 16.0").level == 16
    assert read("colour: 'red'").colour == "red"


def test_empty_sections_have_defaults(read, top):
    assert read("inner:") == read("inner: {}") == read("") == top()


def test_rules_about_several_fields_stand_at_the_field_to_blame(read):
    text = "count: 1\ninner:\n  high: 5\n  low: 7"
    assert read.mistakes(text) == ["r.yaml:4: inner.low: 7 is above high = 5; lower it"]
    # low has its default: the line is that of the field which is given
    below = "r.yaml:3: inner.low: 1 is above high = -5; lower it"
    assert read.mistakes("count: 1\ninner:\n  high: -5") == [below]


def test_a_rule_waits_until_its_fields_are_right(read):
    assert read.mistakes("inner: {low: 200, high: x}") == [
        "r.yaml:1: inner.high: a whole number is expected ('x' given)"
    ]
    assert read.mistakes("inner: {low: 50, hig: 60}") == [
        "r.yaml:1: inner.hig: unknown key - did you mean high?"
    ]


def test_default_file_command_line_in_this_order(read):
    one = read("count: 1\nrate: 2\ninner: {low: 3}", "rate=4", "inner.high=5")
    assert (one.count, one.rate, one.switch, one.inner.low, one.inner.high) == (1, 4.0, False, 3, 5)
    assert read.origins == {
        "count": "r.yaml:1",
        "rate": "command line",
        "inner": "r.yaml:3",
        "inner.low": "r.yaml:3",
        "inner.high": "command line",
    }


def test_options_are_frozen_and_strict(top):
    with pytest.raises(ValidationError, match="frozen"):
        top().count = 5
    for wrong in ({"count": True}, {"count": "5"}, {"rate": True}, {"text": 5}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            top(**wrong)


def test_a_wrong_default_shows_when_the_options_are_built():
    class Wrong(Options):
        count: int = Field(-1, ge=0, description="too small")

    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Wrong()


def test_mappings_and_anything(read):
    from typing import Any

    class Loose(Options):
        weights: dict[str, float] = Field({}, description="name -> weight")
        extra: Any = Field(None, description="anything")

    both = read("weights: {a: 1e-3, b: 08}\nextra: [1, 1e3, on, {a: ~}]", kind=Loose)
    assert both.weights == {"a": 0.001, "b": 8.0}
    assert both.extra == [1, 1000.0, "on", {"a": None}]
    assert read.mistakes("weights: {a: x}", kind=Loose) == [
        "r.yaml:1: weights.a: a number is expected ('x' given)"
    ]
    assert read.mistakes("weights: 5", kind=Loose) == [
        "r.yaml:1: weights: a mapping is expected ('5' given)"
    ]


def test_a_field_of_an_unknown_type_is_our_fault(read):
    class Odd(Options):
        size: complex = Field(1j, description="cannot be written in YAML")

    with pytest.raises(TypeError, match=r"size: options of type .*complex"):
        read("size: 1", kind=Odd)
