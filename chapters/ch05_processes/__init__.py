"""Chapter 05: processes. Numbers from 1, a /proc that shows them, and one end for all of them."""
