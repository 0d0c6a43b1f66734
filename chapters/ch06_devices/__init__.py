"""Chapter 06: devices. A /dev of harmless ones, and the kernel's other doors shut."""
