"""TODO varpro/app/config."""
