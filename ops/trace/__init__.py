"""What happened to one thing, across services and topics, in time order."""
