"""Floor 4: docker's commands, one file per group. They parse, call the engine, and print."""
