"""What supervisor and workers tell each other, and the page of counters they share."""
