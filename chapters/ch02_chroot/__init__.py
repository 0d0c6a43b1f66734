"""Chapter 02: a root directory. The program's paths begin in a directory of our choice."""
