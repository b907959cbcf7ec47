"""Debounced, level-triggered: what is known of policies, pods and lists becomes rules and status."""
