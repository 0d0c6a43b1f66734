"""Chapter 09: capabilities. Root keeps a list of small powers, and gives up the great ones."""
