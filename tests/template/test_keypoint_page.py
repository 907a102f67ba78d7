"""The page's table of key points is what the code places and every template carries."""

import pathlib

from data_prep.keypoint_placement import load_table
from dgn_tf.template import load_template

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "keypoints.md"
BONES = {"1": "first", "2": "middle", "3": "last"}


def share(part: float) -> str:
    """0.25 -> "25 %"."""
    return f"{100 * part:.0f} %"


def rows() -> list[str]:
    """The table's lines, of the templates' own names and the table of their places."""
    template, table = load_template(), load_table()
    lines = []
    for number, name in enumerate(template.keypoint_names):
        part, (across, depth, along) = table[name]
        assert template.keypoint_weights[number, template.part_names.index(part)] == 1
        if part == "palm":
            place = (
                f"palm, {share(across)} across from the little finger, {share(depth)} up to the "
                f"back, {share(along)} to the knuckles"
            )
        else:
            bone = "second" if part == "thumb2" else BONES[part[-1]]
            finger = "thumb" if part[:-1] == "thumb" else f"{part[:-1]} finger"
            place = f"{finger}, {bone} bone, {share(along)} of the way to its end"
        told = "yes" if number in template.evaluated else ""
        lines.append(f"| {number} | `{name}` | {place} | `{part}` | {told} |")
    return lines


def test_the_page_tells_where_each_key_point_lies():
    told = [line for line in PAGE.read_text().splitlines() if line[2:3].isdecimal()]
    assert told == rows()


def test_fourteen_are_evaluated_as_the_page_says():
    assert PAGE.read_text().count("| yes |") == len(load_template().evaluated) == 14
