"""TODO varpro/_reduced."""
