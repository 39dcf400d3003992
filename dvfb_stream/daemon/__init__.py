"""What the daemon is told, and what it writes to, whichever source its documents come from."""
