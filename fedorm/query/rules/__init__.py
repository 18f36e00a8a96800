"""Rewrites, one a module: each takes a statement's tree and says what a piece may do by itself."""
