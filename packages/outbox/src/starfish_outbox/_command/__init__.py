"""The command line: looking into an outbox, and putting it right."""
