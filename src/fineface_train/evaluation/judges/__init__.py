"""Who reads AUs and attributes in made images."""
