"""How a sandbox behaves: as a file says, which is read again whenever it changes, and for the rest the environment."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from local.private_files import write_privately
from services.runtime.settings import SettingsError, describe

if TYPE_CHECKING:
    from pathlib import Path

Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
B = TypeVar("B", bound=BaseSettings)


class BehaviourFile(Generic[B]):
    """The behaviour as a file of JSON says, if there is one; a file that is wrong changes nothing.

    Raises SettingsError at the start when the environment is wrong.
    """

    def __init__(self, path: Path | None, model: type[B]) -> None:
        self.path = path
        self._model = model
        self._seen: tuple[int, int, int] | None = None
        prefix = model.model_config.get("env_prefix", "")
        try:
            self._behaviour = model()
        except ValidationError as error:
            raise SettingsError(describe(error).replace("setting ", f"setting {prefix}", 1)) from None

    def read(self) -> B:
        """Return the behaviour in force: the same one until it changes."""
        if self.path is None:
            return self._behaviour
        try:
            found = self.path.stat()
            if (seen := (found.st_ino, found.st_mtime_ns, found.st_size)) != self._seen:
                self._seen = seen
                self._behaviour = self._parse(self.path.read_bytes())
        except FileNotFoundError:
            if self._seen is not None:
                self._seen, self._behaviour = None, self._model()
        except SettingsError as error:
            sys.stderr.write(f"{self.path} is no behaviour, and what was said before stays. {error}\n")
            sys.stderr.flush()
        return self._behaviour

    def write(self, text: bytes) -> None:
        """Have it otherwise from now on, in the file; SettingsError when the text is no behaviour."""
        behaviour = self._parse(text)
        if self.path is not None:
            write_privately(self.path, text.decode())
            self.read()
        # Two files of one size within one tick of the clock look the same.
        self._behaviour = behaviour

    def _parse(self, text: bytes) -> B:
        try:
            return self._model(**json.loads(text))
        except ValidationError as error:
            raise SettingsError(describe(error)) from None
        except (ValueError, TypeError) as error:
            raise SettingsError(f"It is not a JSON object: {error}.") from None


def share_of(text: str) -> float:
    """Return the share of all texts below which this one is chosen: at random, and always the same."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48
