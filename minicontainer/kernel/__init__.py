"""Floor 1: one file per kernel feature. It knows Linux, and knows no container."""
