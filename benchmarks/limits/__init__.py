"""What no library can beat: the same work written by hand, statement for statement."""
