import pytest

from dgn_tf.errors import InputError, reason


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "Graph execution error:\n\nDetected at node Assert_5 defined at (most recent call "
            "last):\n"
            "<stack traces unavailable>\nassertion failed: [depth: negative values]\n"
            "\t [[{{node Assert_5}}]] [Op:__inference_signature_wrapper_2857]",
            "[depth: negative values]",
        ),
        (
            "Graph execution error:\n\n2 root error(s) found.\n  (0) INVALID_ARGUMENT: "
            "assertion failed: [too many]\n\t [[{{node a}}]]\n  (1) INVALID_ARGUMENT: other",
            "[too many]",
        ),
        (
            "{{function_node __wrapped__Next_device_/job:localhost}} Could not parse it\n"
            "\t [[{{node Parse}}]] [Op:IteratorGetNext] name: ",
            "Could not parse it",
        ),
        ("plain", "plain"),
        ("", "ValueError"),
        ("x" * 300, "x" * 200),
    ],
)
def test_the_reason_of_an_error_is_what_it_tells(text, wanted):
    assert reason(ValueError(text)) == wanted


def test_what_a_file_says_of_itself_begins_no_line_and_commands_no_terminal():
    assert str(InputError("holds\n2\r\n\x1b[31mops\x9b\u2028.")) == "holds 2 [31mops ."
    assert str(InputError("mit Ümläut, 手")) == "mit Ümläut, 手"
