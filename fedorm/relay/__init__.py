"""The relay: it hands the events of every service's outbox on to handlers, to models and to brokers."""
