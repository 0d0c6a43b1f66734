"""Chapter 13: ports."""
