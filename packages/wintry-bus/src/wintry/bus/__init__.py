"""Commands, events and a message pipeline that loses nothing."""
