"""Web frameworks: one module each, imported by who uses that framework."""
