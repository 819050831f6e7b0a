"""Pages and tables, made from what runs and evaluations left on disk."""
