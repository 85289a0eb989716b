"""The command line as a whole: its commands, its exit codes, its one line for an error."""

from __future__ import annotations

import errno
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from services.cli import Commands, commands
from services.client import ApiError
from shared.catalog import UnknownName
from shared.errors import ErrorKind, PermanentError
from shared.settings import SettingError

EVERY_COMMAND = (  # noqa: SIM905
    "backup cancel cluster clusterings clusters correct delete doctor embed export frames gc jobs keyframes keys "
    "models remove restore retry search sources status submit up"
).split()


def test_every_command_explains_itself() -> None:
    assert sorted(commands.commands) == EVERY_COMMAND
    for name in EVERY_COMMAND:
        result = CliRunner().invoke(commands, [name, "--help"])
        assert result.exit_code == 0
        assert len(result.output.splitlines()[2].strip()) > 20


@pytest.mark.parametrize(
    "name", [*sorted(set(EVERY_COMMAND) - {"clusterings", "keys", "up"}), "keys add", "keys list", "keys revoke"]
)
def test_every_command_but_the_server_has_json(name: str) -> None:
    assert "--json" in CliRunner().invoke(commands, [*name.split(), "--help"]).output


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (PermanentError(ErrorKind.EMPTY, "It is empty."), 1, "It is empty."),
        (ApiError("No Reelmap answers."), 1, "No Reelmap answers."),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "No space left on device (/x)"),
        (UnknownName("there is no model x"), 2, "there is no model x"),
        (SettingError("REELMAP_X is wrong"), 2, "REELMAP_X is wrong"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(error: Exception, exit_code: int, said: str) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", f"Error: {said}\n")


def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    result = CliRunner().invoke(commands, ["jobs", "--server", "http://127.0.0.1:9"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: No Reelmap answers at http://127.0.0.1:9. Start one with `reelmap up`")


@pytest.mark.parametrize(
    "arguments", [["submit"], ["submit", "nothing.mp4"], ["search", "j"], ["jobs", "--limit", "0"]]
)
def test_a_wrong_command_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(commands, arguments).exit_code == 2


def test_asking_for_help_loads_no_heavy_library() -> None:
    heavy = {"torch", "sklearn", "av", "cv2", "sqlalchemy", "celery", "flask"}
    code = (
        "import sys; from services.cli import commands; commands(['--help'], standalone_mode=False); "
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
