"""TODO varpro/_dmd."""
