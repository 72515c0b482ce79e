"""A terminal's frames as an SVG that moves."""

from xml.etree import ElementTree

from recording import Frame, moving_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_each_line_is_drawn_once_and_seen_when_it_was_there() -> None:
    frames = [
        Frame(0.0, ("$ study", "\x1b[31m0 of 2\x1b[0m trials")),
        Frame(6.0, ("$ study", "1 of 2 trials <&>", "trial 1")),
        Frame(12.0, ("$ study", "2 of 2 trials", "trial 1")),
    ]
    root = ElementTree.fromstring(moving_svg(frames, width=40, height=5, speed=6, title="a study"))  # noqa: S314  ours
    defined = {group.get("id"): "".join(group.itertext()) for group in root.iter(f"{SVG}g") if group.get("id")}
    assert len(defined) == 5
    seen = {}
    for use in root.iter(f"{SVG}use"):
        animation = use.find(f"{SVG}animate")
        moments = None if animation is None else (animation.get("values"), animation.get("keyTimes"))
        seen[defined[use.attrib["href"][1:]].replace("\xa0", " ")] = (use.get("visibility"), moments)
    assert seen["$ study"] == ("visible", None)
    assert seen["1 of 2 trials <&>"] == ("hidden", ("hidden;visible;hidden", "0;0.2500;0.5000"))
    assert seen["trial 1"] == ("visible", ("hidden;visible", "0;0.2500"))
    assert seen["0 of 2 trials"] == ("hidden", ("visible;hidden", "0;0.2500"))
