"""The demonstration: a day's batches, orders and changes, fed to the service from the outside.

    python -m allocation.demo [--url URL] [--data DIR] [--settings FILE]

It comes with the extra `demo`. The application does not import it: see `exclude` in `app.py`.
"""
