"""Runs one worker of the closing service."""

import sys

from services.closure.app import build_from_environment
from services.runtime.app import run

if __name__ == "__main__":
    sys.exit(run(build_from_environment))
