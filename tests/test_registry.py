"""One class behind every registry: names are unique, unknown ones list the known."""

import pytest

from clapp.errors import ConfigError, UserError
from clapp.system.registry import Registry


@pytest.fixture
def shapes() -> Registry[int]:
    found: Registry[int] = Registry("shape")
    found.add("triangle", 3)
    found.add("square", 4)
    return found


def test_it_reads_like_a_mapping_in_the_order_of_registration(shapes: Registry[int]) -> None:
    assert (list(shapes), len(shapes), shapes["square"]) == (["triangle", "square"], 2, 4)
    assert "triangle" in shapes
    assert "circle" not in shapes
    assert shapes.find("triangle") == 3
    shapes.remove("triangle")
    assert shapes.names() == ["square"]


def test_a_decorated_entry_is_registered_and_unchanged(shapes: Registry[object]) -> None:
    def entry() -> None: ...

    assert shapes.register("function")(entry) is entry
    assert shapes.find("function") is entry


def test_a_name_is_taken_once(shapes: Registry[int]) -> None:
    shapes.add("square", shapes["square"])  # the same entry again, as a module read twice does
    with pytest.raises(UserError, match=r"^shape 'square' is registered already; choose another"):
        shapes.add("square", 5)
    assert shapes["square"] == 4


@pytest.mark.parametrize("name", ["", " square", "a/b", "_a", "-a", "a\n", "größe", 3])
def test_names_are_plain(shapes: Registry[int], name: str) -> None:
    with pytest.raises(UserError, match=r"^shape .*: not a name; allowed: letters, digits"):
        shapes.add(name, 5)


def test_an_unknown_name_lists_the_known(shapes: Registry[int]) -> None:
    with pytest.raises(
        ConfigError, match=r"^shape 'sqare' is not known; did you mean square\? known: triangle, sq"
    ):
        shapes.find("sqare")
    with pytest.raises(ConfigError, match=r"^shape \[\] is not known; .*known: triangle, square$"):
        shapes.find([])  # type: ignore[arg-type]
