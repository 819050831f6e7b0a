"""AffectNet's layouts."""
