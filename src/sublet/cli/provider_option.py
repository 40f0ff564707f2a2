"""Options that the verbs of ``sublet provider`` share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_HOME = Path("~/.sublet/provider")

HomeOption = Annotated[
    Path,
    typer.Option("--home", metavar="FOLDER", help="Of the provider: keys, settings."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
