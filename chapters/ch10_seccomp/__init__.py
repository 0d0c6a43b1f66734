"""Chapter 10: a system-call filter."""
