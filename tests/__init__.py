"""The engine's tests, in the same folders as the engine."""
