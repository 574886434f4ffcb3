"""Repositories whose method names are the queries, with one meaning on every store."""
