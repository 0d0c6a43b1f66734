"""The book's code: one folder per chapter, with its stage, its attack, its tests and its price."""
