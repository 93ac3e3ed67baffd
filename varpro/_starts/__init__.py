"""TODO varpro/_starts."""
