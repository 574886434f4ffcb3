"""Plain domain classes with a generated codec and change tracking."""
