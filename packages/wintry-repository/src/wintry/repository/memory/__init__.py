"""The store that lives in this process: the meaning of every query, written down once, and a fast double for tests."""
