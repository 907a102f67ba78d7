"""The table of key points that ships is that of the program that derives it."""

import json

from tests.programs import run


def test_libhands_mesh_and_markers_give_the_table_that_ships(shared_data, checkout, tmp_path):
    folder = shared_data / "libhand1721"
    run(
        "data_prep.place_keypoints",
        f"--libhand={folder / 'right_hand.pkl'}",
        f"--markers={folder / 'nyu_markers.json'}",
        f"--output={tmp_path / 'table.json'}",
    )
    found = json.loads((tmp_path / "table.json").read_text())
    shipped = json.loads((checkout / "data_prep" / "makehuman_keypoints.json").read_text())
    assert found == shipped and len(found["keypoints"]) == 36
