"""TODO varpro/_search."""
