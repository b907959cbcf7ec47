"""A real Kubernetes of one node, from loose programs, in namespaces of its own: for what only a kubelet, a scheduler and pods show."""
