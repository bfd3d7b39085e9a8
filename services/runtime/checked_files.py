"""Reads the TOML files that operators may replace, each checked against its model before anything starts."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from pathlib import Path


class Strict(BaseModel):
    """What such a file is made of: unchangeable, and a name that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileError(ValueError):
    """A file cannot be used: the text says which, where in it and why."""


_Model = TypeVar("_Model", bound=Strict)


def read_toml(path: Path, model: type[_Model]) -> _Model:
    """Read and check a file.

    Raises:
        FileError: the file is missing, not TOML, or breaks a rule; names the file and the setting.
    """
    try:
        return model.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise FileError(message) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"{path}: {where}: {first['msg']}"
        raise FileError(message) from error
