"""From datasets on disk to training examples."""
