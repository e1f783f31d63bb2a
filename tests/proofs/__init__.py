"""What is proven, by what, and which proofs a change owes: `make test`, `make prove`, `make owed`."""
