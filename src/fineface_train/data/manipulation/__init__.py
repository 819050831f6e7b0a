"""The layout of expression-manipulator's data."""
