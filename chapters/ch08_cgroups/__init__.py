"""Chapter 08: control groups. No more than its share, and no device that was not given to it."""
