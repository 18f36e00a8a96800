"""Rules that go through a message broker: one process publishes what has changed, any number of them write it."""
