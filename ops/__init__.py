"""For people on call: the command line and what it reads."""
