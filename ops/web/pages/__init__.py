"""What the console answers, a module a page."""
