"""Floor 3: what dockerd is, without the daemon: containers, their records, logs and supervision."""
