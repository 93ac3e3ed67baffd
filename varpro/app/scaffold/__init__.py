"""TODO varpro/app/scaffold."""
