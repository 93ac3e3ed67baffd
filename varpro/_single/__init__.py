"""TODO varpro/_single."""
