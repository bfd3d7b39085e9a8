"""Decides what becomes of cases, applications to come back and clearances; pure."""
