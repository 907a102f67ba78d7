"""Lays the pages out for mkdocs as they lie in the checkout, so that their links hold.

    python docs/site.py build/pages

Adds docs/reference.md: the flags of every program, as its `--help` prints them.
"""

import configparser
import pathlib
import re
import shutil
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def main(target: pathlib.Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for file in pages():
        for linked in (file, *links_of(file)):
            place = target / linked.relative_to(CHECKOUT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(linked, place)
    (target / "docs" / "reference.md").write_text(reference())


def pages() -> list[pathlib.Path]:
    """The pages that mkdocs.yml names and that are files of the checkout."""
    named = re.findall(r": ([\w/]+\.md)$", (CHECKOUT / "mkdocs.yml").read_text(), re.MULTILINE)
    return [CHECKOUT / name for name in named if (CHECKOUT / name).is_file()]


def links_of(page: pathlib.Path) -> list[pathlib.Path]:
    """The files, pictures among them, that a page links to."""
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    files = [page.parent.joinpath(target).resolve() for target in targets]
    return [file for file in files if file.is_file()]


def programs() -> list[tuple[str, str]]:
    """(command, module) of every program, by setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    entries = [line.split(" = dgn_tf.console:") for line in scripts if line]
    found = []
    for command, name in entries:
        program = CHECKOUT / "dgn_tf" / name
        ours = program.with_suffix(".py").is_file() or (program / "__main__.py").is_file()
        found.append((command, f"{'dgn_tf' if ours else 'data_prep'}.{name}"))
    return found


def reference() -> str:
    """The page of all programs' flags."""
    parts = [
        "# Programs and flags\n\nMade of the code by `make docs`. Every flag can stand in a file: "
        "`--flagfile=FILE`.\n"
    ]
    for command, module in programs():
        run = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        text = run.stdout.strip().replace("```", "'''")
        parts.append(f"## {command}\n\n`python -m {module}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
