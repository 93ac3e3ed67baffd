"""TODO varpro/app/report."""
