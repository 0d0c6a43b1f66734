"""Chapter 11: users."""
