"""Everything that runs on one machine with Python alone: engines, supervisor, sandbox bank, replay and demo."""
