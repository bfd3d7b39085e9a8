"""Workloads for the transfer service and the bare floor that they are compared with."""
