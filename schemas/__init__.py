"""The wire: what other systems publish and read, as pydantic models; imports nothing else of the project."""
