"""The source and the sink of the operator without a cluster: a directory of YAML."""
