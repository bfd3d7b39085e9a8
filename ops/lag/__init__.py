"""How far every consumer group on the cluster is behind, in records and in seconds, and what is to be made of it."""
