"""How a command ends when it cannot do what was asked: one line on standard error, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from services.client import ApiError
from shared.catalog import UnknownName
from shared.errors import ReelmapError
from shared.parameters import BadParameter
from shared.settings import SettingError


@contextmanager
def as_click_errors() -> Iterator[None]:
    """Turn the expected failures into click's: exit code 2 for a wrong command or setting, 1 for work that failed."""
    try:
        yield
    except (UnknownName, BadParameter, SettingError) as error:
        raise click.UsageError(str(error)) from error
    except ReelmapError as error:
        raise click.ClickException(error.message) from error
    except ApiError as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        raise  # the reader of our output had enough; click ends quietly
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise click.ClickException(f"{error.strerror or error}{where}") from error
