"""The transactional outbox: events that are written with the changes they tell of, and handed on afterwards."""
