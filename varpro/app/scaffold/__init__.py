"""New configuration files, and the reference of what they may hold."""
