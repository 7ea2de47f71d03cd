"""Where the time of each rank went: categories, operations, kernels."""
