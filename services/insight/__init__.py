"""The insight service: what the events say when they are counted, and the risk flags that follow."""
