"""Chapter 07: overlay. Every container writes to a layer of its own, and ROOTFS stays as it was."""
