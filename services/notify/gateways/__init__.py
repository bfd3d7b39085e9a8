"""Adapters: one module a protocol by which messages leave for people, all alike to the dispatcher."""
