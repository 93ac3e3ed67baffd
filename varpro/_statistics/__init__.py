"""TODO varpro/_statistics."""
