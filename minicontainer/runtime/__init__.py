"""Floor 2: an OCI runtime specification and a root file system in, a process out."""
