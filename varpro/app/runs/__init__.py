"""TODO varpro/app/runs."""
