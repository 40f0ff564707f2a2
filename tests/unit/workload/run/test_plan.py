"""What runs, and which files go along."""

import pytest

from sublet.base.errors import Refused
from sublet.workload.run.plan import (
    SCRIPT_BYTES_MAX,
    Program,
    Seen,
    Shape,
    Source,
    add_dependencies,
    find_paths,
    parse_program,
)
from sublet.workload.run.wish import Wish

DISK = {
    "train.py": Seen("train.py", Shape.FILE, size=100),
    "huge.py": Seen("huge.py", Shape.FILE, size=2 << 30),
    "run.sh": Seen("run.sh", Shape.FILE, size=100),
    "./run.sh": Seen("./run.sh", Shape.FILE, size=100),
    "src/app.py": Seen("src/app.py", Shape.FILE, size=100),
    "data": Seen("data", Shape.FOLDER, names=("x",)),
    "sock": Seen("sock", Shape.OTHER),
    "project": Seen("project", Shape.FOLDER, names=(".git", "lib", "main.py")),
    "package": Seen("package", Shape.FOLDER, names=("__main__.py", "main.py")),
    "empty": Seen("empty", Shape.FOLDER),
    ".": Seen(".", Shape.FOLDER, names=("main.py",)),
}


def parse(*target: str, inputs: tuple[str, ...] = (), dashes: bool = False) -> Program:
    wish = Wish(target=target, inputs=inputs, is_command=dashes)
    seen = {
        path: DISK.get(path, Seen(path, Shape.MISSING)) for path in find_paths(wish)
    }
    return parse_program(wish, seen)


def test_script_lies_in_the_work_folder() -> None:
    program = parse("src/app.py", "--fast")
    assert program.kind == "script"
    assert program.argv == ("app.py", "--fast")
    assert program.sources == (Source("src/app.py", "app.py"),)
    assert program.command == "src/app.py --fast"


ENTRIES = [
    ("project", "main.py", ("lib", "main.py")),  # history stays at home
    ("package", "__main__.py", ("__main__.py", "main.py")),
    (".", "main.py", ("main.py",)),
]


@pytest.mark.parametrize(("folder", "entry", "names"), ENTRIES)
def test_folder_becomes_the_work_folder(
    folder: str, entry: str, names: tuple[str, ...]
) -> None:
    program = parse(folder, "7")
    assert (program.kind, program.argv) == ("script", (entry, "7"))
    assert program.sources == (Source(folder, "", names),)


COMMANDS = [
    (("nvidia-smi", "-L"), False),
    (("true",), True),
    (("train.py",), True),  # behind -- it is a command, whatever lies here
    (("/usr/bin/env",), False),
]


@pytest.mark.parametrize(("target", "dashes"), COMMANDS)
def test_anything_else_is_a_command(target: tuple[str, ...], dashes: bool) -> None:
    program = parse(*target, dashes=dashes)
    assert (program.kind, program.argv, program.sources) == ("command", target, ())


REFUSED = [
    ((), "no_target"),
    (("",), "no_target"),
    (("missing.py",), "no_script"),
    (("bin/missing",), "no_script"),
    (("huge.py",), "script_too_large"),
    (("empty",), "no_entry"),
    (("./run.sh",), "not_a_script"),
]


@pytest.mark.parametrize(("target", "code"), REFUSED)
def test_wrong_target_is_refused(target: tuple[str, ...], code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(*target)
    assert caught.value.code == code
    assert DISK["huge.py"].size > SCRIPT_BYTES_MAX


def test_inputs_lie_under_their_names() -> None:
    program = parse("train.py", inputs=("data", "src/app.py"))
    assert program.sources[1:] == (
        Source("data", "data"),
        Source("src/app.py", "app.py"),
    )


INPUTS = [
    (("missing",), "no_input"),
    (("sock",), "no_input"),
    ((".",), "bad_path"),
    (("data", "data"), "same_name"),
    (("train.py",), "same_name"),  # as the script itself
]


@pytest.mark.parametrize(("inputs", "code"), INPUTS)
def test_wrong_input_is_refused(inputs: tuple[str, ...], code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse("train.py", inputs=inputs)
    assert caught.value.code == code


# ---- dependencies of a folder ---------------------------------------------------------

PROJECT = '[project]\nrequires-python = ">=3.11"\ndependencies = ["numpy>=2", "rich"]\n'


def test_project_s_dependencies_become_metadata() -> None:
    script = add_dependencies("print(1)\n", PROJECT)
    assert script.startswith("print(1)\n")
    assert '# requires-python = ">=3.11"' in script
    assert '# dependencies = ["numpy>=2", "rich"]' in script
    assert add_dependencies(script, PROJECT) == script  # it has metadata now


@pytest.mark.parametrize("project", ["", "[tool.x]\ny = 1\n", "project = 3\n"])
def test_project_without_needs_changes_nothing(project: str) -> None:
    assert add_dependencies("print(1)\n", project) == "print(1)\n"


def test_damaged_project_is_refused() -> None:
    with pytest.raises(Refused, match=r"pyproject\.toml"):
        add_dependencies("print(1)\n", "[project")


def test_dependency_cannot_break_out_of_its_line() -> None:
    script = add_dependencies(
        "", '[project]\ndependencies = ["a\\n# ///\\nimport os"]\n'
    )
    assert "\nimport os" not in script
