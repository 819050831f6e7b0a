"""ToyFACS: a drawn world with known Action Units that needs no licence, no download and no GPU."""
