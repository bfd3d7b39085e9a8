"""The process of the console that `sluice up` keeps running."""

from __future__ import annotations

from ops.web.serving import main

if __name__ == "__main__":
    main()
