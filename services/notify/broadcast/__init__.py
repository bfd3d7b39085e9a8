"""Tells many people the same: resolved in chunks by the database, resumed wherever it was stopped."""
