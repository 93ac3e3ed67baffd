"""TODO varpro/_problem."""
