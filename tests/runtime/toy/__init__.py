"""A service small enough to see through, for the runtime to run: it adds up what it is sent."""
