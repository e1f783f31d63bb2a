"""What units are made of."""
