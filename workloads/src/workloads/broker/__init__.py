"""A small community broker, independent of the rest: five consumer groups that check and keep what they receive."""
