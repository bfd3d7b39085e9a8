"""Brings messages to gateways, finds out what became of each, and never hands one over twice."""
