"""TODO varpro/app/plan."""
