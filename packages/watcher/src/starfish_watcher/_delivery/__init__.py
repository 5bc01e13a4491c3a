"""How events reach those who wait for them."""
