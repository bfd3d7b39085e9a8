"""People's inboxes as they read them: over HTTP as JSON, as a page, and live."""
