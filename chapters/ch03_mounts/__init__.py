"""Chapter 03: a mount tree. The host's tree is not hidden from the program: it is not there."""
