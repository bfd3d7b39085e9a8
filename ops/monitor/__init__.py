"""`sluice monitor`: what Prometheus asks about the whole system rather than about one worker."""
