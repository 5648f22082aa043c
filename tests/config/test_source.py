"""YAML text, Python mappings and command-line words become one tree that knows its places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import RecipeError, UserError
from config.source import flatten, from_mapping, load_file, override, parse


def leaves(tree):
    """Dotted key -> text as written, or a list of them."""

    def text(value):
        data = value.data
        return (
            [text(item) for item in data] if isinstance(data, list) else getattr(data, "text", data)
        )

    return {key: text(value) for key, value in flatten(tree).items()}


def problems_of(text):
    problems = []
    parse(text, "r.yaml", problems)
    return [str(problem) for problem in problems]


NESTED = {"a.b.c": "1", "a.b.d": "2", "a.e": "3", "f": ["4", "5"]}


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  b:\n    c: 1\n    d: 2\n  e: 3\nf: [4, 5]",
        "a.b.c: 1\na.b.d: 2\na.e: 3\nf:\n- 4\n- 5",
        "a.b:\n  c: 1\na:\n  b.d: 2\n  e: 3\nf: [4, 5]",
        "a: {b: {c: 1, d: 2}, e: 3}\nf: [4, 5]",
        "{a: {b: {c: 1, d: 2}, e: 3}, f: [4, 5]}",
        "a:\n  b: {c: 1,\n      d: 2}\n  e: 3\nf: [4,\n  5]  # a comment",
        "--- # a document\na: {b: {c: 1, d: 2}, e: 3}\nf: [4, 5]\n...\n",
    ],
)
def test_nested_and_dotted_keys_are_the_same(text, parsed):
    assert leaves(parsed(text)) == NESTED


def test_python_mappings_may_be_nested_dotted_or_both():
    problems = []
    tree = from_mapping({"a.b": {"c": 1, "d": 2}, "a": {"e": 3}, "f": (4, 5)}, problems)
    assert {k: str(v) for k, v in leaves(tree).items()} == {
        "a.b.c": "1",
        "a.b.d": "2",
        "a.e": "3",
        "f": "[4, 5]",
    }
    assert not problems


def test_a_python_mapping_that_says_two_things_is_refused():
    problems = []
    from_mapping({"a.b": 1, "a": {"b": 2}}, problems)
    assert [str(p) for p in problems] == ["python: a.b: given twice, first at python - keep one"]


words = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)


@given(
    st.dictionaries(
        st.lists(words, min_size=1, max_size=3).map(".".join), st.integers(), max_size=6
    )
)
def test_dotted_text_and_nested_mapping_give_the_same_tree(flat):
    keys = sorted(flat)
    if any(long.startswith(f"{short}.") for short in keys for long in keys):
        return  # a key cannot be a section and a value
    problems = []
    text = "\n".join(f"{key}: {value}" for key, value in flat.items())
    expected = {key: str(value) for key, value in flat.items()}
    assert leaves(parse(text, "r.yaml", problems)) == expected
    assert {k: str(v) for k, v in leaves(from_mapping(flat, problems)).items()} == expected
    assert not problems


def test_dashes_equal_underscores(parsed):
    assert leaves(parsed("a-b:\n  c-d: e-f")) == {"a_b.c_d": "e-f"}


def test_values_know_their_lines(parsed):
    tree = parsed("# first\na:\n\n  b: 1\n  c:\n    - 2\n    - 3\nd.e: |\n  long\n  text\nf: 4")
    places = {key: value.place for key, value in flatten(tree).items()}
    assert places == {"a.b": "r.yaml:4", "a.c": "r.yaml:5", "d.e": "r.yaml:8", "f": "r.yaml:11"}
    assert tree.data["a"].place == "r.yaml:2"
    assert [item.place for item in tree.data["a"].data["c"].data] == ["r.yaml:6", "r.yaml:7"]


def test_anchors_and_merge_keys(parsed):
    text = """
base: &base {x: 1, y: 2}
more: &more
  y: 3
  z: 4
own_wins: {<<: *base, x: 9}
own_wins_wherever_it_stands: {x: 9, <<: *base}
first_of_a_list_wins:
  <<: [*base, *more]
copy: *base
"""
    found = leaves(parsed(text))
    assert {k: v for k, v in found.items() if k.startswith("own_wins.")} == {
        "own_wins.x": "9",
        "own_wins.y": "2",
    }
    assert found["own_wins_wherever_it_stands.x"] == "9"
    assert [found[f"first_of_a_list_wins.{k}"] for k in "xyz"] == ["1", "2", "4"]
    assert (found["copy.x"], found["copy.y"]) == ("1", "2")


def test_a_change_of_one_copy_of_an_anchor_leaves_the_others(parsed):
    tree = parsed("a: &a {x: 1}\nb: *a\nc: {<<: *a}")
    override(tree, ["b.x=5"], [])
    assert leaves(tree) == {"a.x": "1", "b.x": "5", "c.x": "1"}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\nb: 2\na: 1", ["r.yaml:3: a: given twice, first at r.yaml:1 - keep one"]),
        ("a:\n  b: 1\n  b: 2", ["r.yaml:3: a.b: given twice, first at r.yaml:2 - keep one"]),
        ("a:\n  b: 1\na:\n  c: 2", ["r.yaml:3: a: given twice, first at r.yaml:1 - keep one"]),
        ("a.b: 1\na:\n  b: 2", ["r.yaml:3: a.b: given twice, first at r.yaml:1 - keep one"]),
        ("a-b: 1\na_b: 2", ["r.yaml:2: a_b: given twice, first at r.yaml:1 - keep one"]),
        ("a: 1\na.b: 2", ["r.yaml:2: a.b: not possible, for a is no section at r.yaml:1"]),
        ("a.b: 2\na: 1", ["r.yaml:2: a: given twice, first at r.yaml:1 - keep one"]),
        ("[a, b]: 1", ["r.yaml:1: a key must be a word"]),
        ("a:\n  <<: 5", ["r.yaml:2: a: << merges sections; what stands here is none"]),
        ("a: &x\n  b: *x", ["r.yaml:1: a.b: an anchor that contains itself"]),
        ("a: &x [1, *x]", ["r.yaml:1: a: an anchor that contains itself"]),
    ],
)
def test_what_yaml_would_swallow_is_reported(text, lines):
    assert problems_of(text) == lines


FIT = "the indentation does not fit the lines above - indent alike"
KEY = "no key can stand here - check the indentation, and the space after each colon"
BRACKET = "a bracket that is not closed, or a comma that is missing"
QUOTE = "a quote that is not closed"
COLON = "a key without a colon - write 'key: value'"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n  b: 1\n   c: 2", f"3: not valid YAML: {KEY}"),
        ("a:\n  b: 1\n    c: 2\n  d: 3", f"3: not valid YAML: {KEY}"),
        ("a:\n  b: x\n c: 2", f"3: not valid YAML: {FIT}"),
        ("a:\n  b:\n    c: 1\n   d: 2", f"4: not valid YAML: {FIT}"),
        ("a: b: c", f"1: not valid YAML: {KEY}"),
        ("a:\n  b: [1, 2\nc: 3", f"2: not valid YAML: {BRACKET}"),
        ("a: {b: 1\nc: 3", f"1: not valid YAML: {BRACKET}"),
        ("a: {b: 1 c: 3}", f"1: not valid YAML: {BRACKET}"),
        ("a:\n\tb: 1", "2: not valid YAML: a tab - indent with spaces"),
        ('a: 1\nb: "c\nd: 5\n', f"2: not valid YAML: {QUOTE}"),
        ("a: 'b", f"1: not valid YAML: {QUOTE}"),
        ("a:\n  b: 1\n  seed:5\n  c: 2", f"3: not valid YAML: {COLON}"),
        ("a: 1\n---\nb: 2", "2: not valid YAML: --- begins a second recipe - keep one"),
        ("a: *nowhere", "1: not valid YAML: found undefined alias 'nowhere'"),
        (
            'a: "C:\\data"',
            "1: not valid YAML: while scanning a double-quoted scalar, found unknown escape "
            "character 'd'",
        ),
        ("a: 1\nb: \x07", "2: not valid YAML: the character '\\x07' is not allowed - remove it"),
    ],
)
def test_broken_yaml_names_the_line_and_what_to_do(text, line):
    with pytest.raises(RecipeError) as error:
        parse(text, "r.yaml", [])
    assert error.value.lines() == [f"r.yaml:{line}"]


@pytest.mark.parametrize(
    "content",
    [
        "a:\n  b: \u00e9 1\n".encode(),
        "\ufeffa:\n  b: \u00e9 1\n".encode(),
        "a:\r\n  b: \u00e9 1\r\n".encode(),
        "a:\r  b: \u00e9 1\r".encode(),
    ],
    ids=["plain", "byte order mark", "CRLF", "CR"],
)
def test_files_of_all_systems(content, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    problems = []
    tree = load_file(path, problems)
    assert leaves(tree) == {"a.b": "\u00e9 1"}
    assert tree.data["a"].data["b"].place == f"{path}:2"
    assert not problems


@pytest.mark.parametrize("content", [b"", b"# nothing but a comment\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_recipe(content, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    tree = load_file(path, [])
    assert tree.data == {}


def test_a_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(UserError) as error:
        load_file(path, [])
    assert error.value.lines() == [f"{path}:2: not UTF-8 text; save the file as UTF-8"]


def test_words_win_over_the_file_and_later_words_over_earlier(parsed):
    problems = []
    tree = parsed("a:\n  b: 1\n  c: 2\nd: [1, 2]")
    override(
        tree, ["a.b=5", "a.b=6", "--d=[3]", "a.new-key=x=y", "e={f: 1, g: [2]}", "h="], problems
    )
    assert not problems
    assert leaves(tree) == {
        "a.b": "6",
        "a.c": "2",
        "d": ["3"],
        "a.new_key": "x=y",
        "e.f": "1",
        "e.g": ["2"],
        "h": "",
    }
    assert tree.data["a"].data["b"].place == "command line"
    assert tree.data["a"].data["c"].place == "r.yaml:3"


@pytest.mark.parametrize(
    "text", ["a: b", "*x", "&x", "#5", "%", "@a", "- 1", "a, b", "!tag", "`x`"]
)
def test_words_are_taken_literally(text, parsed):
    tree = parsed("")
    override(tree, [f"k={text}"], [])
    assert leaves(tree) == {"k": text}


def test_all_bad_words_are_reported(parsed):
    problems = []
    override(parsed("a: 1"), ["b", "=5", "a..b=1", "c=[1", 'd="x', "a=2"], problems)
    assert [str(problem) for problem in problems] == [
        "command line: 'b' is not key=value, e.g. common.seed=1",
        "command line: '=5' is not key=value, e.g. common.seed=1",
        "command line: 'a..b=1' is not key=value, e.g. common.seed=1",
        f"command line: c: not valid YAML: {BRACKET}",
        f"command line: d: not valid YAML: {QUOTE}",
    ]
