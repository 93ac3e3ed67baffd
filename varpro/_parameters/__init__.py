"""TODO varpro/_parameters."""
