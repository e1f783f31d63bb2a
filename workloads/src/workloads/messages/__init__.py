"""What operators do with messages that their consumers could not handle: list them, give them back, dismiss them."""
