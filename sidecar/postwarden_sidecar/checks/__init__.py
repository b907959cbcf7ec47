"""The tests, each a pure function of the rules and of what is known of a client."""
