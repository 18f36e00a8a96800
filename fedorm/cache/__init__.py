"""The results of statements, kept until they are too old or a commit has changed what they were read from."""
