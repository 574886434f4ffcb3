"""The reference service of Wintry: allocating order lines to batches of stock."""
