"""One file per command; `engine.command_line` holds their table."""
