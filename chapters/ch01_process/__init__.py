"""Chapter 01: a process. Start a program, pass it what it should have and no more, tell its end."""
