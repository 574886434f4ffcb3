"""Peers that are programs of their own, written as their documentation shows."""
