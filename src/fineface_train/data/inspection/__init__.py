"""What the page about prepared data is made of."""
