"""What the end-to-end tests stand on: real programs, started for a test and gone after it."""
