"""TODO varpro/_results."""
