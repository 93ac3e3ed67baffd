"""TODO varpro/_global."""
