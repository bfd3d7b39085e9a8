"""The maintenance service: plans windows, starts and ends them on time, and says so."""
