"""Parts: settings in, settings out."""

import re

import pydantic
import pytest

from dlkit.errors import UserError
from dlkit.part import Part, from_spec, part_of
from dlkit.registry import Registry


class Shapes(Registry):
    """A registry whose parts are the classes of this file."""

    def files(self) -> list[str]:
        return []


shapes: Registry = Shapes("shapes", "dlkit.shapes", base="dlkit.part:Part")


class Shape(Part):
    """The base of the parts below."""


@shapes.register("circle", description="round")
class Circle(Shape):
    radius: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)


@shapes.register("frame", description="holds another part")
class Frame(Shape):
    inner: part_of(shapes) = Circle()  # type: ignore[valid-type]


def test_a_spec_makes_an_equal_part() -> None:
    for part in (Circle(), Circle(radius=2, centre=(1, 2)), Frame(inner=Frame(inner=Circle(radius=3)))):
        assert from_spec(shapes, part.spec()) == part


def test_a_spec_is_plain_data() -> None:
    assert Frame(inner=Circle(radius=2)).spec() == {
        "name": "frame",
        "inner": {"name": "circle", "radius": 2.0, "centre": [0.0, 0.0]},
    }


def test_a_part_may_be_given_by_name_by_settings_or_as_itself() -> None:
    part = Circle(radius=2)
    assert from_spec(shapes, "circle") == Circle()
    assert from_spec(shapes, {"name": "circle", "radius": 2}) == part
    assert from_spec(shapes, part) is part
    assert Frame(inner="circle") == Frame(inner={"name": "circle"}) == Frame()


def test_replace_gives_a_changed_and_validated_copy() -> None:
    part = Circle()
    assert part.replace(radius=3) == Circle(radius=3)
    assert part == Circle()
    with pytest.raises(UserError, match="circle: radius: Input should be a valid number"):
        part.replace(radius="wide")
    with pytest.raises(UserError, match="circle: unknown key 'raduis'; did you mean 'radius'"):
        part.replace(raduis=2)


def test_replace_keeps_nested_parts() -> None:
    frame = Frame(inner=Circle(radius=2))
    assert frame.replace() == frame


def test_parts_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Circle().radius = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"raduis": 2}, "shapes 'circle': unknown key 'raduis'; did you mean 'radius'?"),
        ({"zzz": 2}, "shapes 'circle': unknown key 'zzz'; known: radius, centre"),
        ({"radius": "wide"}, "shapes 'circle': radius: Input should be a valid number"),
        ({"centre": [0.0, "left"]}, "shapes 'circle': centre.1: Input should be a valid number"),
    ],
)
def test_wrong_settings_are_told_in_one_line(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        from_spec(shapes, {"name": "circle", **settings})
    assert "\n" not in str(caught.value)


def test_a_wrong_setting_inside_a_part_is_told_as_such() -> None:
    with pytest.raises(UserError, match="shapes 'circle': unknown key 'raduis'"):
        Frame(inner={"name": "circle", "raduis": 2})


def test_a_spec_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="lack a 'name'; known: circle, frame"):
        from_spec(shapes, {"radius": 2})


def test_what_is_neither_name_nor_settings_nor_part_is_refused() -> None:
    for value in (5, None, ["circle"]):
        with pytest.raises(UserError, match="shapes: expected a name or settings with a 'name', got "):
            from_spec(shapes, value)
    with pytest.raises(UserError, match="lack a 'name'"):
        from_spec(shapes, {"name": 5})


def test_a_part_that_is_not_registered_here_is_refused() -> None:
    class Square(Shape):
        pass

    class Oval(Circle):  # it would be written down as a circle
        pass

    for part in (Square(), Oval()):
        with pytest.raises(UserError, match=f"shapes: {type(part).__name__} is not one of these; known: circle, frame"):
            from_spec(shapes, part)
        with pytest.raises(UserError, match="is not one of these"):
            Frame(inner=part)


def test_an_unknown_name_inside_a_part_is_told_as_such() -> None:
    with pytest.raises(UserError, match="did you mean 'circle'"):
        Frame(inner="circel")
