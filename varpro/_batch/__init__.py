"""TODO varpro/_batch."""
