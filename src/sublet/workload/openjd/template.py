"""The door to ``openjd-model``, which reads, checks and instantiates templates.

The library is Apache-2.0, by the authors of the specification, and comes with the extra
``sublet[openjd]``; it is imported when a template is read, and nowhere else. Its errors
become ours here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.workload.deploy.fault import Findings
from sublet.workload.deploy.tree import FILE_BYTES_MAX, read_tree

EXTENSIONS = ("FEATURE_BUNDLE_1", "REDACTED_ENV_VARS", "TASK_CHUNKING")
TEXT_LENGTH_MAX = 2_000  # of what the library says of a template
JSON_ENDING = ".json"


class OpenJob(Struct, frozen=True):
    """A template with its parameters put in; the models are the library's."""

    name: str
    folder: Path  # of the template, absolute
    job: Any  # openjd.model.v2023_09.Job
    definitions: dict[str, Any]  # of the job's parameters, by name
    values: dict[str, Any]  # ParameterValue, by name
    steps: tuple[Any, ...]  # in an order in which each follows those it depends on


def load_job(path: Path, given: Mapping[str, str], *, here: Path) -> OpenJob:
    """Read a template, check it and its parameters, and make a job of them.

    Args:
        path: a YAML file, or JSON where it ends so.
        given: values of job parameters, as typed.
        here: the folder to which typed paths are relative.

    Raises:
        Faults: the file is no plain YAML; each with its line.
        Refused: the file cannot be read, is no job template, uses an extension that is
            not supported, or a parameter is missing, unknown or out of its bounds.
        ModuleNotFoundError: the extra is not installed.
    """
    from openjd import model

    document = _read(path)
    kind = model.DocumentType.JSON
    if path.suffix.lower() != JSON_ENDING:
        kind = model.DocumentType.YAML
        # The library's reader of YAML falls over brackets that are nested too deep, and
        # multiplies aliases without a bound.
        found = Findings(path.name)
        read_tree(document, found)
        found.check()
    folder = path.absolute().parent
    with translate_fault(str(path), code="bad_template"):
        content = model.document_string_to_object(
            document=document.decode(), document_type=kind
        )
        _check_extensions(content, path)
        template = model.decode_job_template(
            template=content, supported_extensions=EXTENSIONS
        )
    with translate_fault("--param", code="bad_parameter"):
        values = model.preprocess_job_parameters(
            job_template=template,
            job_parameter_values=dict(given),
            job_template_dir=folder,
            current_working_dir=here,
        )
    with translate_fault(str(path), code="bad_template"):
        job = model.create_job(job_template=template, job_parameter_values=values)
        steps = model.StepDependencyGraph(job=job).topo_sorted()
    defined = template.parameterDefinitions or ()
    return OpenJob(
        name=job.name,
        folder=folder,
        job=job,
        definitions={one.name: one for one in defined},
        values=dict(values),
        steps=tuple(steps),
    )


def parse_parameters(texts: tuple[str, ...]) -> dict[str, str]:
    """Read ``NAME=VALUE`` each.

    Raises:
        Refused: one has no equals sign or no name, or a name stands there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            what = "stands there twice" if name in found else "is not NAME=VALUE"
            raise Refused(
                f"--param: {text[:80]!r} {what}; write it like --param Frames=1-10",
                code="bad_parameter",
                field="--param",
            )
        found[name] = value
    return found


@contextmanager
def translate_fault(field: str, *, code: str) -> Iterator[None]:
    """Make the library's word for a fault ours, with the field that it is about."""
    try:
        yield
    except (ValueError, NotImplementedError, RecursionError, TypeError) as exc:
        # Its errors are all of ValueError; the others come from odd documents.
        said = str(exc)[:TEXT_LENGTH_MAX] or type(exc).__name__
        raise Refused(f"{field}: {said}", code=code, field=field) from exc


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        content.decode()
        if len(content) <= FILE_BYTES_MAX:
            return content
        why = f"it has more than {FILE_BYTES_MAX} bytes"
    except OSError as exc:
        why = str(exc.strerror)
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    raise Refused(
        f"{path} cannot be read as a job template: {why}",
        code="bad_template",
        field="TEMPLATE",
    )


def _check_extensions(content: Mapping[str, Any], path: Path) -> None:
    """Name what we do not do before the library says it in its own words."""
    asked = content.get("extensions")
    if not isinstance(asked, list):
        return
    foreign = [str(one)[:40] for one in asked if one not in EXTENSIONS]
    if foreign:
        raise Refused(
            f"{path}: extensions: {', '.join(foreign)} is not supported here; write the "
            f"template without it (supported are {', '.join(EXTENSIONS)})",
            code="unsupported_template",
            field="extensions",
        )
