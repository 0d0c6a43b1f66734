"""minicontainer: a container engine that you can read."""

__version__ = "0.1.0"
