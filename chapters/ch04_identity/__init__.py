"""Chapter 04: an identity. A host name, and System V and POSIX queues and memory, of one's own."""
