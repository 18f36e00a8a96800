"""Real database servers, TLS certificates and pytest fixtures for testing against several stores at once."""
