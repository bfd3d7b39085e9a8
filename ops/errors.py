"""The errors that whoever reads them can mend."""

from __future__ import annotations


class UserError(Exception):
    """Something to be mended by a person: the text is a sentence of what is wrong, where, and what to do.

    The command line prints it without a traceback and ends with `exit_code`: 2 where a command could not do what it
    is for, 1 where it could and the answer is no.
    """

    exit_code = 2
