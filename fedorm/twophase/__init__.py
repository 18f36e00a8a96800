"""Transactions over several services that all commit or none: the protocol, its decision log, and its recovery."""
