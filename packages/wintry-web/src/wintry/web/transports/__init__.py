"""Listening to brokers: the part of this library that needs wintry-bus (extra `messaging`)."""
