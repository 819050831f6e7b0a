"""A sweep's arms beside each other."""
