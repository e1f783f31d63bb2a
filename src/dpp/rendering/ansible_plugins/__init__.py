"""What stands in for the operators' plugins where nothing is deployed."""
