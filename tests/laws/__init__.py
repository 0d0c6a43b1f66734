"""The laws of the book (docs/architecture.md), each one a test."""
