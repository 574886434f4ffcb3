"""Ratios of Wintry to the limit and to its peers: a module an area, the harness beside them."""
