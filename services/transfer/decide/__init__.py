"""The pure rules of the transfer service: (message, facts, now) -> what changes; no driver, clock or logger."""
