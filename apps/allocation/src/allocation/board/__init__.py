"""The stock board: a page without framework or network, kept up to date by server-sent events."""
