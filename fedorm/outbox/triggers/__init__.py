"""Triggers that write the events of an outbox, whoever changes a table's rows."""
