"""What waits for what: the dependency graph, its critical path, and runs that never were."""
