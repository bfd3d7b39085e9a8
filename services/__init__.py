"""The independent asynchronous services and the runtime that they share."""
