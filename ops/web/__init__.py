"""The console: pages for the people on call, and public ones for customers; made on the server, few scripts."""
