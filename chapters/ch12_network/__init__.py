"""Chapter 12: network."""
