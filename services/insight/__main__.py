"""Runs one worker of the insight service."""

import sys

from services.insight.app import run

if __name__ == "__main__":
    sys.exit(run())
