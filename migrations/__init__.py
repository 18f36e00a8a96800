"""The histories of the example shop's tables, one a service."""
