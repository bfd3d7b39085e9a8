"""The errors that whoever reads them can mend."""

from __future__ import annotations


class UserError(Exception):
    """Something to be mended by a person: the text is a sentence of what is wrong, where, and what to do.

    The command line prints it without a traceback and ends with `exit_code`: 2 where a setting or the words
    of the command are wrong, 1 for everything else.
    """

    exit_code = 1
