"""What the package imports: all that it asks for, nothing in a circle, and late what is slow."""

import ast
import configparser
import importlib
import operator
import pathlib
import re
import subprocess
import sys

PACKAGES = {  # whose module is named otherwise
    "absl-py": "absl",
    "Pillow": "PIL",
    "tensorflow-addons": "tensorflow_addons",
    "tensorflow-graphics": "tensorflow_graphics",
}


def sources(checkout, *folders) -> dict[str, pathlib.Path]:
    """Name of a module -> its file."""
    found = {}
    for folder in folders:
        for file in sorted((checkout / folder).rglob("*.py")):
            parts = file.relative_to(checkout).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(tree) -> set[str]:
    """Names of what a piece of code imports, `from a import b` as both a and a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def at_load(tree) -> set[str]:
    """What a module imports when it is loaded itself: not in functions, not for types alone."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            names |= imported(node)
    return names


def test_every_package_that_is_asked_for_is_imported(checkout):
    config = configparser.ConfigParser()
    config.read(checkout / "setup.cfg")
    asked = re.findall(r"^([\w-]+)", config["options"]["install_requires"], re.MULTILINE)
    files = sources(checkout, "dgn_tf", "data_prep").values()
    names = {name.split(".")[0] for file in files for name in imported(ast.parse(file.read_text()))}
    assert len(asked) > 10
    for package in asked:
        if package != "setuptools":  # tensorflow-addons' own need
            assert PACKAGES.get(package, package) in names, package


def test_no_module_imports_itself_by_way_of_others(checkout):
    files = sources(checkout, "dgn_tf", "data_prep")
    edges = {
        name: {n for n in at_load(ast.parse(file.read_text())) if n in files and n != name}
        for name, file in files.items()
    }
    done: set[str] = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(edges[name]):
                # A package's own modules may name it: it is there when they load.
                if not name.startswith(f"{other}."):
                    visit(other, [*path, name])
            done.add(name)

    for name in sorted(edges):
        visit(name, [])
    assert len(done) == len(files) > 150


def test_prediction_loads_neither_graphics_nor_addons(checkout):
    code = (
        "import sys, dgn_tf.predict, dgn_tf.predictor, dgn_tf.network\n"
        "found = [m for m in sys.modules if m.startswith(('tensorflow_graphics', "
        "'tensorflow_addons'))]\n"
        "sys.exit(f'loaded: {found}' if found else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_map_of_the_paper_names_what_there_is(checkout):
    page = (checkout / "docs/paper_map.md").read_text()
    numbers = {int(n) for n in re.findall(r"^- \*\*Eq\. (\d+)\*\*", page, re.MULTILINE)}
    assert numbers == set(range(1, 15)), "each equation of the paper has a line"
    names = re.findall(r"`((?:dgn_tf|data_prep|experiments)\.[\w.]+)`", page)
    assert len(names) > 40
    modules = sources(checkout, "dgn_tf", "data_prep", "experiments")
    for name in names:
        if name in modules:  # a program, perhaps, whose flags are none of ours
            continue
        home = max((m for m in modules if name.startswith(f"{m}.")), key=len)
        operator.attrgetter(name.removeprefix(f"{home}."))(importlib.import_module(home))


def test_synthesis_needs_no_tensorflow():
    """Processes that synthesise frames start in seconds, and on machines without TensorFlow."""
    code = "import sys, dgn_tf.synthesis.batches; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
