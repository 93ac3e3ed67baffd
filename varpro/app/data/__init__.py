"""TODO varpro/app/data."""
