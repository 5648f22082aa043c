"""Numbers, booleans, nulls and text mean what a person means by them."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.scalars import plain, read_scalar
from config.source import Scalar, parse


@given(st.floats(allow_nan=False))
def test_every_float_that_python_prints_is_read_back(number):
    for text in (repr(number), f"{number:.17g}", f"{number:.20e}", str(number).upper()):
        assert read_scalar(Scalar(text), float) == number


@given(st.floats(allow_nan=False))
def test_every_float_that_yaml_prints_is_read_back(number):
    text = yaml.safe_dump(number).split("\n")[0]
    assert read_scalar(Scalar(text), float) == number


@given(st.integers(), st.integers(0, 6))
def test_whole_numbers_with_leading_zeros(number, zeros):
    sign, digits = ("-", str(number)[1:]) if number < 0 else ("", str(number))
    text = sign + "0" * zeros + digits
    assert read_scalar(Scalar(text), int) == number
    assert read_scalar(Scalar(text), str) == text


@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_may_be_written_as_a_float(number):
    assert read_scalar(Scalar(f"{number}.0"), int) == number
    assert read_scalar(Scalar(f"{number}e0"), int) == number


@given(st.text())
def test_text_stays_as_it_is_written(text):
    assert read_scalar(Scalar(text, plain=False), str) == text


@given(st.text())
def test_no_text_makes_reading_raise(text):
    for kind, allowed in ((int, int), (float, float), (bool, bool)):
        result = read_scalar(Scalar(text), kind)
        assert result is None or type(result) is allowed


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1e-6", 1e-6),
        ("1e3", 1000.0),
        ("1E3", 1000.0),
        ("+1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5", -0.5),
        ("08", 8.0),
        ("1_000", 1000.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("+.Inf", math.inf),
        ("inf", math.inf),
    ],
)
def test_numbers(written, number, read):
    assert read(f"any_rate: {written}").any_rate == number
    assert read("", f"any_rate={written}").any_rate == number
    assert read(f"any_rate: '{written}'").any_rate == number  # official files quote some numbers


@pytest.mark.parametrize("written", ["08", "8", "8.0", "8e0", "+8", "0008"])
def test_whole_numbers(written, read):
    assert read(f"count: {written}").count == 8


@pytest.mark.parametrize(
    "written",
    ["true", "on", "yes", "0x10", "1:30", "1,5", "1 000", "nan", ".nan", "1e999", "-1e999", "--1"],
)
def test_what_is_no_number(written, read):
    assert read.mistakes(f"rate: {written}") == [
        f"r.yaml:1: rate: a number is expected ('{written}' given)"
    ]


@pytest.mark.parametrize(
    "written", ["1.5", "1e-3", "0x10", "0o17", "0b1", "true", "inf", "1e999", "None"]
)
def test_what_is_no_whole_number(written, read):
    assert read.mistakes(f"count: {written}") == [
        f"r.yaml:1: count: a whole number is expected ('{written}' given)"
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [(w, True) for w in ("true", "True", "TRUE", "on", "On", "yes", "'true'")]
    + [(w, False) for w in ("false", "False", "off", "OFF", "no", '"no"')],
)
def test_booleans(written, value, read):
    assert read(f"switch: {written}").switch is value
    assert read("", f"switch={written}").switch is value


@pytest.mark.parametrize("written", ["1", "0", "1.0", "y", "maybe", "~"])
def test_what_is_no_boolean(written, read):
    assert read.mistakes(f"switch: {written}") == [
        f"r.yaml:1: switch: true or false is expected ('{written}' given)"
    ]


@pytest.mark.parametrize("written", ["on", "off", "yes", "no", "true", "08", "1e3", "None", "1:30"])
def test_text_is_never_read_as_anything_else(written, read):
    assert read(f"text: {written}").text == written
    assert read(f"names: [{written}]").names == (written,)
    assert read(f"maybe_text: '{written} '").maybe_text == f"{written} "


@pytest.mark.parametrize("written", ["null", "~", "", "None", '"None"', "'None'", "Null", "NULL"])
def test_nulls_where_null_is_allowed(written, read):
    both = read(f"maybe_count: {written}\nmaybe_text: {written}")
    assert both.maybe_count is None
    assert both.maybe_text is None
    assert read(f"level: {written}").level is None
    assert read("", f"maybe_count={written}").maybe_count is None


@pytest.mark.parametrize("written", ["'null'", '"~"', "''", "'none'"])
def test_quoted_text_is_not_null(written, read):
    assert read(f"maybe_text: {written}").maybe_text == written[1:-1]


@pytest.mark.parametrize(
    ("written", "shown"), [("null", "'null' given"), ("~", "'~' given"), ("", "nothing given")]
)
def test_nulls_where_null_is_not_allowed(written, shown, read):
    text = f"count: {written}\nrate: {written}\ntext: {written}\ncolour: {written}"
    lines = read.mistakes(text)
    assert lines[:3] == [
        f"r.yaml:1: count: a whole number is expected ({shown})",
        f"r.yaml:2: rate: a number is expected ({shown})",
        f"r.yaml:3: text: text is expected ({shown})",
    ]
    assert lines[3].startswith(f"r.yaml:4: colour: not one of the choices ({shown}) - allowed: ")


def test_an_empty_word_on_the_command_line_is_an_empty_text(read):
    assert read("text: abc", "text=").text == ""


@pytest.mark.parametrize(("number", "kind"), [(3, int), (3.5, float), ("a", str), (True, bool)])
def test_python_values_are_taken_as_they_are(number, kind):
    assert read_scalar(number, kind) == number


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, int), (False, float), (True, str), (1, bool), (1.5, int), (None, str)],
)
def test_python_values_of_another_type_are_refused(value, kind):
    assert read_scalar(value, kind) is None


ESCAPED_ALIKE = st.text(st.characters(max_codepoint=0xD7FF))  # JSON writes the rest as pairs


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | ESCAPED_ALIKE,
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=8,
    )
)
def test_untyped_values_are_what_json_says(value):
    """JSON is a part of YAML 1.2: `plain` agrees with Python's own writer."""
    text = json.dumps({"k": value})
    assert plain(parse(text, "r.yaml", []))["k"] == value
