"""The command line: the whole system on one machine, and questions to it."""
