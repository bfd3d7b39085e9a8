"""Runs one worker of the transfer service."""

import sys

from services.runtime.app import run
from services.transfer.app import build_from_environment

if __name__ == "__main__":
    sys.exit(run(build_from_environment))
