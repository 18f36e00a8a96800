"""The kinds of databases a service can live in: one file a kind, drivers imported here alone."""
