"""A shop of five services, each with a database of its own."""
