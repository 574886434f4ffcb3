"""The language of method names: operators, the tree of a reading, the parser and the signature."""
