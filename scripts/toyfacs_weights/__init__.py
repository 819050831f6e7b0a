"""How the shipped ToyFACS weights are built, a module for each kind; scripts/build_toyfacs.py runs them."""
