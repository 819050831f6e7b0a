"""DISFA's layouts."""
