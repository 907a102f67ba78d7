"""Files are named by what they are, wherever a reader gives one up."""

import json

import pytest

from dgn_tf.errors import InputError
from dgn_tf.file_kinds import kind_of, named_kind, ros_png
from dgn_tf.json_file import read_json

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "a PNG image"),
        (bytes(12) + PNG, "a ROS compressedDepth message"),
        (b"\xef\xbb\xbf<!DOCTYPE HTML>", "a web page (HTML), such as a sign-in or error page"),
        (b"\n <html lang='en'>", "a web page (HTML), such as a sign-in or error page"),
        (b"\xef\xbb\xbf1 2 3", "text with a UTF-8 byte order mark"),
        (b"1 2 3\r\n", "text"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"\xff\xfe1\x002\x00", "UTF-16 text"),
        (bytes(range(200)), ""),
        (b"", ""),
    ],
)
def test_what_a_file_is_follows_from_its_first_bytes(content, kind):
    assert kind_of(content) == kind


def test_a_png_is_a_ros_message_only_behind_a_header():
    assert ros_png(PNG) is None and ros_png(bytes(5) + PNG) is None
    assert ros_png(bytes(40) + PNG) == 40 and ros_png(bytes(9000) + PNG) is None


def test_a_file_that_is_not_there_has_no_name(tmp_path):
    assert named_kind(tmp_path / "none") == ""
    (tmp_path / "notes").write_text("words")
    assert named_kind(tmp_path / "notes") == ""


def test_json_with_a_byte_order_mark_is_read_and_a_web_page_is_named(tmp_path):
    file = tmp_path / "calibration.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": [1]}).encode())
    assert read_json(file) == {"a": [1]}
    file.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"it is a web page \(HTML\)"):
        read_json(file)
    file.write_text('{"a": ')
    with pytest.raises(ValueError, match="Expecting value"):
        read_json(file)


def test_a_web_page_saved_as_a_pickle_or_as_labels_is_named(tmp_path):
    from data_prep import restricted_pickle
    from data_prep.multi_view.centres import read_centres
    from data_prep.nyu import labels

    file = tmp_path / "right_hand.pkl"
    file.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    for read in (
        lambda: restricted_pickle.load(file),
        lambda: labels.read_labels(file, (1,)),
    ):
        with pytest.raises(InputError, match=r"right_hand.pkl: .*it is a web page \(HTML\)"):
            read()
    file.write_bytes(b"\xef\xbb\xbf1 2 500\r\n")
    assert read_centres(file)[0].tolist() == [[1, 2, 500]]
    file.write_bytes("1 2 500".encode("utf-16"))
    with pytest.raises(InputError, match="it is UTF-16 text"):
        read_centres(file)
