"""The source and the sink of the operator in a cluster."""
